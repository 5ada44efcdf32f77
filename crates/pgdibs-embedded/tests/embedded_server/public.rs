//! Tests of the databases that `initdb` creates: only the superuser may connect, in a new, an old and an adopted cluster.

use pgdibs_embedded::Embedded;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::setup::{Setup, execute, text};

/// Connects as an ordinary login; the error is the SQLSTATE.
async fn connect_as_visitor(server: &Embedded, database: &str) -> Result<(), String> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(server.host())
        .port(server.port())
        .username("visitor")
        .password("v")
        .database(database);
    match PgConnection::connect_with(&options).await {
        Ok(connection) => {
            connection.close().await.unwrap();
            Ok(())
        }
        Err(error) => Err(error.as_database_error().unwrap().code().unwrap().into_owned()),
    }
}

async fn assert_closed(server: &Embedded) {
    for database in ["postgres", "template1"] {
        assert_eq!(connect_as_visitor(server, database).await, Err("42501".to_owned()), "{database}");
    }
    assert_eq!(text(server, "select current_database()::text").await, "postgres");
}

#[tokio::test]
async fn start_revokes_connect_of_public_on_initdb_databases() {
    let setup = Setup::new();
    let server = setup.start().await;
    execute(&server, "create role visitor login password 'v'").await;
    assert_closed(&server).await;
    // Postgres does not copy the privileges of a template database, so a new database has the usual ones.
    execute(&server, "create database later").await;
    assert_eq!(connect_as_visitor(&server, "later").await, Ok(()));

    // A cluster with the privileges of an older pgdibs: first adopted, then started.
    let open = "grant connect, temporary on database postgres, template1 to public";
    execute(&server, open).await;
    assert_eq!(connect_as_visitor(&server, "postgres").await, Ok(()));
    drop(server);
    let server = setup.start().await;
    assert!(server.adopted());
    assert_closed(&server).await;

    execute(&server, open).await;
    server.stop().await.unwrap();
    let server = setup.start().await;
    assert!(!server.adopted());
    assert_closed(&server).await;
    // A cluster without template1 starts too.
    execute(&server, "update pg_database set datistemplate = false where datname = 'template1'").await;
    execute(&server, "drop database template1").await;
    server.stop().await.unwrap();
    setup.start().await.stop().await.unwrap();
}
