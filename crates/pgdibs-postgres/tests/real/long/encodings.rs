//! Clusters of other encodings and collation providers: the catalog is UTF-8 on each, and names of other encodings stop nothing.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::End;
use pgdibs_core::request::Acquire;
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::cluster::{Cluster, all_binaries};
use pgdibs_testing::conformance::ConformanceServer as _;

use crate::support::setting::Setting;

/// Arguments of `initdb`, the first major that has them, and the name of a database that others make there.
const CLUSTERS: [(&[&str], u32, &str); 6] = [
    (&["-E", "LATIN1", "--locale=C"], 14, "é"),
    (&["-E", "SQL_ASCII", "--locale=C"], 14, "é"),
    (&["-E", "EUC_JP", "--locale=C"], 14, "日本"),
    (&["-E", "UTF8", "--locale=en_US.UTF-8"], 14, "é"),
    (&["-E", "LATIN1", "--locale-provider=icu", "--icu-locale=en-US", "--locale=C"], 15, "é"),
    (&["-E", "UTF8", "--locale-provider=icu", "--icu-locale=en-US", "--locale=C"], 15, "é"),
];

#[test]
fn cluster_of_any_encoding_gives_leases() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for binaries in all_binaries() {
        let mut has_icu = false;
        for (arguments, since, name) in &CLUSTERS {
            let is_there = match arguments {
                arguments if arguments.contains(&"--locale-provider=icu") => has_icu,
                arguments if arguments.contains(&"--locale=en_US.UTF-8") => has_en_us(),
                _ => true,
            };
            if binaries.major < *since || !is_there {
                continue;
            }
            println!("{} {arguments:?}", binaries.dir.display());
            runtime.block_on(async {
                let cluster = Cluster::start_with_initdb(&binaries, arguments);
                cluster.sql("postgres", &format!("create database \"{name}\"")).await;
                has_icu =
                    cluster.text("postgres", "select count(*) from pg_collation where collname = 'en-x-icu'").await
                        != "0";
                let setting = Setting::on(cluster, Rights::Superuser).await;
                check(&setting).await;
                setting.suite.backend.close().await;
            });
        }
    }
}

/// Whether this system has the locale; a minimal one has none but C.
fn has_en_us() -> bool {
    let locales = std::process::Command::new("locale").arg("-a").output().unwrap();
    String::from_utf8_lossy(&locales.stdout).lines().any(|name| name == "en_US.utf8")
}

async fn check(setting: &Setting) {
    let suite = &setting.suite;
    let encoding =
        "select format('%s %s', pg_encoding_to_char(encoding), datcollate) from pg_database where datname = 'pgdibs'";
    assert_eq!(setting.catalog_text(encoding).await, "UTF8 C");
    let logins = suite.server.logins().await;
    suite.ready_pool(1, 2, 1).await;
    let label = "Jörg 日本 €";
    let lease = suite.take(Acquire { holder: label.to_owned(), ..suite.acquire_request() }).await;
    assert_eq!(suite.backend.lease(lease.id).await.unwrap().holder, label);
    let session = suite.enter_clean_and_write(&lease).await;
    drop(session);
    suite.backend.end_lease(lease.id, End::Released, "released").await.unwrap();
    suite.idle().await;
    suite.finish(&logins).await;
}
