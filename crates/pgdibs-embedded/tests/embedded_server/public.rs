//! Who may connect to the databases that `initdb` makes: the superuser alone, in a new cluster, an old one and an adopted one.

use pgdibs_embedded::{Embedded, Leave};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::setup::{Setup, execute, text};

/// Connects as an ordinary login; gives the SQLSTATE of a refusal.
async fn visit(server: &Embedded, database: &str) -> Result<(), String> {
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
        assert_eq!(visit(server, database).await, Err("42501".to_owned()), "{database}");
    }
    assert_eq!(text(server, "select current_database()::text").await, "postgres");
}

#[tokio::test]
async fn public_cannot_connect_to_databases_of_initdb() {
    let setup = Setup::new();
    let server = setup.start().await;
    execute(&server, "create role visitor login password 'v'").await;
    assert_closed(&server).await;
    // Privileges of a template are not copied, so databases that a superuser makes are as they are on any server.
    execute(&server, "create database later").await;
    assert_eq!(visit(&server, "later").await, Ok(()));

    // A cluster as an older pgdibs left it: first adopted, then started.
    let open = "grant connect, temporary on database postgres, template1 to public";
    execute(&server, open).await;
    assert_eq!(visit(&server, "postgres").await, Ok(()));
    drop(server);
    let server = setup.start().await;
    assert!(server.adopted());
    assert_closed(&server).await;

    execute(&server, open).await;
    server.leave(Leave::Stop).await.unwrap();
    let server = setup.start().await;
    assert!(!server.adopted());
    assert_closed(&server).await;
    // One without template1 starts as well.
    execute(&server, "update pg_database set datistemplate = false where datname = 'template1'").await;
    execute(&server, "drop database template1").await;
    server.leave(Leave::Stop).await.unwrap();
    setup.start().await.leave(Leave::Stop).await.unwrap();
}
