//! `[pools.NAME]` and its source.

use std::time::Duration;

use pgdibs_core::pool::LoginRights;
use secrecy::ExposeSecret as _;

use super::super::{PoolSettingsConfig, StrategyConfig};
use super::{Given, row};
use pgdibs_sources::SourceKind;

const WHOLE: &str = r#"
[pools.shop]
warm = 5
max = 40
spares = 0
owner = "shop_app"
strategy = "wal_log"
extensions = ["uuid-ossp", "pg_trgm"]
roles = ["reader"]
keep_templates = 2
template_max_age_days = 7
login = "createdb"
connection_limit = 20

[pools.shop.source]
command = ["python", "manage.py", "migrate, now"]
inputs = ["app/**/migrations/*.py", "a,b.txt"]
env = { DJANGO_SETTINGS_MODULE = "shop.settings" }
directory = "backend"
timeout_seconds = 90

[pools._bare]
"#;

#[test]
fn every_field_arrives() {
    let given = Given::nothing().file(WHOLE);
    let loaded = given.load().unwrap();
    let [bare, shop] = loaded.config.pools.as_slice() else { panic!("two pools are wanted") };
    assert_eq!(
        (bare.name.as_str(), &bare.settings, bare.source.is_none()),
        ("_bare", &PoolSettingsConfig::default(), true)
    );
    assert_eq!(shop.name, "shop");
    let wanted = PoolSettingsConfig {
        warm: Some(5),
        max: Some(40),
        spares: Some(0),
        owner: Some("shop_app".to_owned()),
        strategy: Some(StrategyConfig::WalLog),
        extensions: Some(vec!["uuid-ossp".to_owned(), "pg_trgm".to_owned()]),
        roles: Some(vec!["reader".to_owned()]),
        keep_templates: Some(2),
        template_max_age_days: Some(7),
        login: Some(LoginRights::CreateDb),
        connection_limit: Some(20),
    };
    assert_eq!(shop.settings, wanted);
    let source = shop.source.as_ref().unwrap();
    assert_eq!(source.kind, SourceKind::Command(["python", "manage.py", "migrate, now"].map(str::to_owned).to_vec()));
    let inputs: Vec<String> = source.inputs.iter().map(ToString::to_string).collect();
    assert_eq!(inputs, ["app/**/migrations/*.py", "a,b.txt"]);
    assert_eq!(source.base, given.directory.path());
    assert_eq!(source.directory, given.directory.path().join("backend"));
    assert_eq!(source.timeout, Some(Duration::from_secs(90)));
    assert_eq!(source.env["DJANGO_SETTINGS_MODULE"].expose_secret(), "shop.settings");

    assert_eq!(row(&loaded, "pools.shop.warm"), "5 · file ./pgdibs.toml line 3");
    assert_eq!(row(&loaded, "pools._bare.warm"), "4 (an existing pool keeps its own) · default");
    assert_eq!(row(&loaded, "pools.shop.extensions"), "uuid-ossp,pg_trgm · file ./pgdibs.toml line 8");
    assert_eq!(
        row(&loaded, "pools.shop.source"),
        "command python manage.py migrate, now; inputs app/**/migrations/*.py,a,b.txt; env DJANGO_SETTINGS_MODULE · file ./pgdibs.toml line 15"
    );
}

#[test]
fn the_other_kinds_of_source() {
    let kind = |line: &str| {
        let given = Given::nothing().file(&format!("[pools.p.source]\n{line}\n"));
        let kind = given.load().unwrap().config.pools[0].source.as_ref().unwrap().kind.clone();
        (kind, given.directory.path().to_path_buf())
    };
    let (dir, root) = kind("sql_dir = \"db\"");
    assert_eq!(dir, SourceKind::SqlDir(root.join("db")));
    let (file, _) = kind("sql_file = \"/srv/dump.sql\"");
    assert_eq!(file, SourceKind::SqlFile("/srv/dump.sql".into()));
    assert_eq!(kind("database = \"seed\"").0, SourceKind::Database("seed".to_owned()));
}

#[test]
fn refusals() {
    let pool = "[pools.shop]\n";
    let source = "[pools.shop.source]\n";
    let cases = [
        (
            "[pools.Shop]",
            "",
            "pools.Shop (file ./pgdibs.toml line 1): `Shop` is not a name for a pool; a name is 1 to 40 small letters, digits and underscores and does not begin with a digit, since its databases are called after it",
        ),
        (
            "[pools.owner]",
            "",
            "pools.owner (file ./pgdibs.toml line 1): `owner` is reserved: the role that owns the pool's objects would be \"pgdibs_owner\", which pgdibs uses for something else; choose another name, such as \"owner_test\"",
        ),
        (
            "[pools.l_5]",
            "",
            "pools.l_5 (file ./pgdibs.toml line 1): `l_5` is reserved: the role that owns the pool's objects would be \"pgdibs_l_5\", which pgdibs uses for something else; choose another name, such as \"l_5_test\"",
        ),
        (
            "[pools.\"o'x\"]",
            "",
            "pools.o\\'x (file ./pgdibs.toml line 1): `o\\'x` is not a name for a pool; a name is 1 to 40 small letters, digits and underscores and does not begin with a digit, since its databases are called after it",
        ),
        (
            "[pools.\"\"]",
            "",
            "pools. (file ./pgdibs.toml line 1): `` is not a name for a pool; a name is 1 to 40 small letters, digits and underscores and does not begin with a digit, since its databases are called after it",
        ),
        (
            "[pools]\n",
            "shop = 3",
            "pools.shop (file ./pgdibs.toml line 2): a table is wanted, not an integer; write [pools.shop]",
        ),
        (pool, "wram = 1", "./pgdibs.toml, line 2: unknown key `wram` in [pools.shop]; did you mean `warm`?"),
        (
            pool,
            "sql_dir = \"x\"",
            "./pgdibs.toml, line 2: unknown key `sql_dir` in [pools.shop]; it belongs into [pools.NAME.source]",
        ),
        (
            pool,
            "warm = -1",
            "pools.shop.warm (file ./pgdibs.toml line 2): -1 is out of range; give a whole number from 0 to 1000",
        ),
        (
            pool,
            "max = 0",
            "pools.shop.max (file ./pgdibs.toml line 2): 0 is out of range; give a whole number from 1 to 1000",
        ),
        (
            pool,
            "warm = 9\nmax = 8",
            "pools.shop.warm (file ./pgdibs.toml line 2): 9 is more than max = 8; lower warm or raise max",
        ),
        (
            pool,
            "warm = 33",
            "pools.shop.warm (file ./pgdibs.toml line 2): 33 is more than 32, the default of max; lower warm or raise max",
        ),
        (
            pool,
            "max = 3",
            "pools.shop.max (file ./pgdibs.toml line 2): 3 is less than 4, the default of warm; set warm = 3 beside it, or raise max",
        ),
        (
            pool,
            "strategy = \"copy\"",
            "pools.shop.strategy (file ./pgdibs.toml line 2): `copy` is not a strategy; auto, wal_log and file_copy are",
        ),
        (
            pool,
            "owner = \"pg_monitor\"",
            "pools.shop.owner (file ./pgdibs.toml line 2): `pg_monitor` is reserved by Postgres or by pgdibs; choose another role",
        ),
        (
            pool,
            "roles = [\"a\\u0000b\"]",
            "pools.shop.roles (file ./pgdibs.toml line 2): `a\\u{0}b` is not a name in Postgres; names have 1 to 63 bytes and no control characters",
        ),
        (
            pool,
            "template_max_age_days = 0",
            "pools.shop.template_max_age_days (file ./pgdibs.toml line 2): 0 is out of range; give a whole number from 1 to 3650",
        ),
        (
            source,
            "",
            "pools.shop.source (file ./pgdibs.toml line 1): exactly one of sql_dir, sql_file, command, database is wanted, but there is none",
        ),
        (
            source,
            "sql_dir = \"a\"\nsql_file = \"b\"",
            "pools.shop.source (file ./pgdibs.toml line 1): exactly one of sql_dir, sql_file, command, database is wanted, but there is sql_dir and sql_file",
        ),
        (
            source,
            "sqldir = \"a\"",
            "./pgdibs.toml, line 2: unknown key `sqldir` in [pools.shop.source]; did you mean `sql_dir`?",
        ),
        (
            source,
            "command = \"alembic upgrade head\"",
            "pools.shop.source.command (file ./pgdibs.toml line 2): an array of the program and its arguments is wanted, not a string, since no shell takes it apart: command = [\"alembic\", \"upgrade\", \"head\"]",
        ),
        (
            source,
            "command = []",
            "pools.shop.source.command (file ./pgdibs.toml line 2): the array is empty; its first string is the program, the others its arguments",
        ),
        (
            source,
            "command = 3",
            "pools.shop.source.command (file ./pgdibs.toml line 2): an array of strings is wanted, not an integer",
        ),
        (
            source,
            "command = [\"make\"]",
            "pools.shop.source.inputs (file ./pgdibs.toml line 1): a `command` source needs `inputs`, the globs of the files it reads (such as inputs = [\"migrations/**/*.py\"]): they alone tell when the template has to be built again, and without them an old schema would be served for ever",
        ),
        (
            source,
            "command = [\"make\"]\ninputs = [\"a/[\"]",
            "pools.shop.source.inputs (file ./pgdibs.toml line 3): `a/[` is not a glob: unclosed character class; missing ']'",
        ),
        (
            source,
            "database = \"x\"\ninputs = [\"a\"]",
            "pools.shop.source.inputs (file ./pgdibs.toml line 3): it has no meaning for a `database` source, which is cloned and not run; leave it out",
        ),
        (
            source,
            "sql_dir = \"x\"\nenv = { PGHOST = \"a\" }",
            "pools.shop.source.env.PGHOST (file ./pgdibs.toml line 3): pgdibs sets this variable itself, to the database that is being built; leave it out, and give another form of it with a command such as [\"sh\", \"-c\", \"OTHER_URL=$PGHOST exec ...\"]",
        ),
        (
            source,
            "sql_dir = \"x\"\nenv = { A = 1 }",
            "pools.shop.source.env.A (file ./pgdibs.toml line 3): a string is wanted; put the value in quotes",
        ),
        (
            source,
            "sql_dir = \"x\"\nenv = { \"A=B\" = \"1\" }",
            "pools.shop.source.env.A=B (file ./pgdibs.toml line 3): a variable's name is not empty and has no `=` in it",
        ),
        (
            source,
            "sql_dir = \"x\"\ntimeout_seconds = 0",
            "pools.shop.source.timeout_seconds (file ./pgdibs.toml line 3): 0 is out of range; give a whole number from 1 to 86400",
        ),
    ];
    for (head, line, sentence) in cases {
        assert_eq!(Given::nothing().file(&format!("{head}{line}\n")).refusal(), sentence, "{head}{line}");
    }
    let long = format!("[pools.{}]", "a".repeat(41));
    assert!(Given::nothing().file(&long).refusal().contains("1 to 40 small letters"));
    assert!(Given::nothing().file(&format!("[pools.{}]", "a".repeat(40))).load().is_ok());
}
