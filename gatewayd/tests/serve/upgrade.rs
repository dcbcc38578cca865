//! A database of an older schema, as its own migrations made it, under this gateway: what waited is
//! intact or void, and nothing is approved by having been moved. And one of a later schema: no start.

use rusqlite::{Connection, OptionalExtension as _};
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::module::ModuleEvent;

use crate::support::{Gateway, Site};

const MIGRATIONS: [&str; 3] = [
    include_str!("../../src/store/migrations/0001.sql"),
    include_str!("../../src/store/migrations/0002.sql"),
    include_str!("../../src/store/migrations/0003.sql"),
];

/// Tables with what they had in common, in an order that foreign keys allow.
const TABLES: [&str; 11] = [
    "meta",
    "requests",
    "statements",
    "certificates",
    "revocations",
    "crls",
    "sessions",
    "sign_ins",
    "audit",
    "rosters",
    "papers",
];

fn columns(database: &Connection, schema: &str, table: &str) -> Vec<String> {
    let mut query = database.prepare("SELECT name FROM pragma_table_info(?1, ?2)").unwrap();
    query.query_map([table, schema], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The same content as schema `version` holds it.
fn age(site: &Site, version: u32) {
    let (now, old) = (site.path().join("gateway.db"), site.path().join("old.db"));
    let database = Connection::open(&old).unwrap();
    database.execute_batch("CREATE TABLE schema_version (version INTEGER NOT NULL)").unwrap();
    for migration in &MIGRATIONS[..version as usize] {
        database.execute_batch(migration).unwrap();
    }
    database.execute("INSERT INTO schema_version (version) VALUES (?1)", [version]).unwrap();
    database.execute("ATTACH ?1 AS new", [now.to_str().unwrap()]).unwrap();
    for table in TABLES {
        let had = columns(&database, "main", table);
        let both: Vec<_> = columns(&database, "new", table).into_iter().filter(|name| had.contains(name)).collect();
        if !both.is_empty() {
            let both = both.join(", ");
            database
                .execute_batch(&format!("INSERT INTO main.{table} ({both}) SELECT {both} FROM new.{table}"))
                .unwrap();
        }
    }
    drop(database);
    for name in ["gateway.db", "gateway.db-wal", "gateway.db-shm"] {
        let _absent = std::fs::remove_file(site.path().join(name));
    }
    std::fs::rename(old, now).unwrap();
}

fn one<T: rusqlite::types::FromSql>(site: &Site, question: &str) -> Option<T> {
    let database = Connection::open(site.path().join("gateway.db")).unwrap();
    database.query_row(question, [], |row| row.get(0)).optional().unwrap()
}

/// Catalogue: G6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_while_the_schema_changes_is_intact_or_void_and_never_approved() {
    for version in 1..=3_u32 {
        for spoilt in [false, true] {
            let site = Site::new();
            let gateway = Gateway::start(&site).await;
            let mut agent = gateway.agent(&site).await;
            let waiting = site.request();
            agent.submit(&waiting).await;
            let (_, ticket) = agent.ticket(waiting.id).await;
            assert_eq!(gateway.approver(&site, "bob").answer(&ticket, Decision::Approve).await, "approved_first");
            gateway.running.stop().await;
            age(&site, version);
            assert_eq!(one::<u32>(&site, "SELECT version FROM schema_version"), Some(version));
            if spoilt {
                // The state says "one approved", and nobody's signature does.
                let database = Connection::open(site.path().join("gateway.db")).unwrap();
                assert_eq!(database.execute("DELETE FROM statements", []).unwrap(), 1);
            }

            let gateway = Gateway::start(&site).await;
            assert_eq!(one::<u32>(&site, "SELECT version FROM schema_version"), Some(4));
            let mut agent = gateway.agent(&site).await;
            agent.resume(&waiting).await;
            let event = agent.event(waiting.id).await;
            assert_eq!(one::<u32>(&site, "SELECT count(*) FROM certificates"), Some(0), "schema {version}");
            if spoilt {
                assert!(matches!(event, ModuleEvent::Refused(_)), "schema {version}: {event:?}");
                let new = gateway.approved_by_two(&site, &mut agent, "bob", "carol").await;
                assert_eq!(gateway.state(new.id).await, "issued", "schema {version}: control");
                assert_eq!(one::<u32>(&site, "SELECT count(*) FROM certificates"), Some(1));
            } else {
                let ModuleEvent::Accepted(accepted) = event else { panic!("schema {version}: {event:?}") };
                assert_eq!(accepted.approved.len(), 1, "schema {version}: bob's signature, verified again");
                // Bob again is not a second person; carol is.
                let (_, ticket) = agent.ticket(waiting.id).await;
                assert_ne!(gateway.approver(&site, "bob").try_claim(&ticket).await.status, 200);
                assert_eq!(gateway.approver(&site, "carol").answer(&ticket, Decision::Approve).await, "granted");
            }
            gateway.running.stop().await;
        }
    }
}

/// Catalogue: K6 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_later_schema_is_refused_with_a_line_that_says_so() {
    let site = Site::new();
    Gateway::start(&site).await.running.stop().await;
    let set = |version: u32| {
        let database = Connection::open(site.path().join("gateway.db")).unwrap();
        database.execute("UPDATE schema_version SET version = ?1", [version]).unwrap();
    };
    set(5);
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_twinlock-gatewayd"))
        .args(["serve", "--config"])
        .arg(&site.config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("schema version 5, which this version does not know"), "{said}");
    assert_eq!(one::<u32>(&site, "SELECT version FROM schema_version"), Some(5), "it was not touched");
    // Control: it is the number alone.
    set(4);
    Gateway::start(&site).await.running.stop().await;
}
