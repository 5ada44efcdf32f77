//! `[pools.NAME]` and its source.

use std::time::Duration;

use pgdibs_core::name::RoleName;
use pgdibs_core::pool::{ActAs, Extension, LoginRights, PoolPatch, Strategy, StrategyChoice};
use secrecy::ExposeSecret as _;

use super::{Given, row};
use pgdibs_sources::SourceKind;

const WHOLE: &str = r#"
[pools.shop]
warm = 5
max = 40
spares = 0
owner = "shop_app"
strategy = "wal_log"
extensions = ["uuid-ossp", { name = "pgcrypto", schema = "ext" }]
roles = ["reader"]
keep_templates = 2
template_max_age_days = 7
idle_pool_seconds = 3600
login = "createdb"
connection_limit = 20
act_as = "login"
locale = "de_DE.UTF-8"
encoding = "UTF8"
icu_locale = ""

[pools.shop.source]
command = ["python", "manage.py", "migrate, now"]
inputs = ["app/**/migrations/*.py", "a,b.txt"]
env = { DJANGO_SETTINGS_MODULE = "shop.settings" }
directory = "backend"
timeout_seconds = 90

[pools._bare]
"#;

#[test]
fn pool_table_sets_every_field() {
    let given = Given::nothing().file(WHOLE);
    let loaded = given.load().unwrap();
    let [bare, shop] = loaded.config.pools.as_slice() else { panic!("two pools are wanted") };
    assert_eq!(
        (bare.name.as_str(), &bare.settings, bare.source.is_none()),
        ("_bare", &PoolPatch { sourced: Some(false), ..PoolPatch::default() }, true)
    );
    assert_eq!(shop.name.as_str(), "shop");
    let role = |name: &str| RoleName::parse("role", name).unwrap();
    let expected = PoolPatch {
        warm: Some(5),
        max: Some(40),
        spares: Some(0),
        owner: Some(role("shop_app")),
        strategy: Some(StrategyChoice::Fixed(Strategy::WalLog)),
        extensions: Some(vec![
            Extension::named("uuid-ossp"),
            Extension { schema: Some("ext".to_owned()), ..Extension::named("pgcrypto") },
        ]),
        roles: Some(vec![role("reader")]),
        keep_templates: Some(2),
        template_max_age_seconds: Some(7 * 86_400),
        idle_pool_seconds: Some(3600),
        login: Some(LoginRights::CreateDb),
        act_as: Some(ActAs::Login),
        connection_limit: Some(20),
        locale: Some("de_DE.UTF-8".to_owned()),
        encoding: Some("UTF8".to_owned()),
        icu_locale: Some(String::new()),
        sourced: Some(true),
    };
    assert_eq!(shop.settings, expected);
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
    assert_eq!(
        row(&loaded, "pools.shop.extensions"),
        "uuid-ossp,{ name = \"pgcrypto\", schema = \"ext\" } · file ./pgdibs.toml line 8"
    );
    assert_eq!(row(&loaded, "pools.shop.source.command"), "python,manage.py,migrate, now · file ./pgdibs.toml line 21");
    assert_eq!(row(&loaded, "pools.shop.source.env"), "DJANGO_SETTINGS_MODULE · file ./pgdibs.toml line 23");
}

#[test]
fn source_table_reads_each_kind() {
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
fn wrong_pool_table_is_refused() {
    let pool = "[pools.shop]\n";
    let source = "[pools.shop.source]\n";
    let cases = [
        (
            "[pools.Shop]",
            "",
            "pools.Shop (file ./pgdibs.toml line 1): \"Shop\" is no pool name: use 1 to 40 characters, a to z, 0 to 9 and _, and no digit first",
        ),
        (
            "[pools.owner]",
            "",
            "pools.owner (file ./pgdibs.toml line 1): \"owner\" is reserved: the role that owns the pool's objects would be \"pgdibs_owner\", which pgdibs uses for something else; choose another name, such as \"owner_test\"",
        ),
        (
            "[pools.l_5]",
            "",
            "pools.l_5 (file ./pgdibs.toml line 1): \"l_5\" is reserved: the role that owns the pool's objects would be \"pgdibs_l_5\", which pgdibs uses for something else; choose another name, such as \"l_5_test\"",
        ),
        (
            "[pools.\"o'x\"]",
            "",
            "pools.o\\'x (file ./pgdibs.toml line 1): \"o\\'x\" is no pool name: use 1 to 40 characters, a to z, 0 to 9 and _, and no digit first",
        ),
        (
            "[pools.\"\"]",
            "",
            "pools. (file ./pgdibs.toml line 1): \"\" is no pool name: use 1 to 40 characters, a to z, 0 to 9 and _, and no digit first",
        ),
        ("[pools]\n", "shop = 3", "pools.shop (file ./pgdibs.toml line 2): expected a table, found integer"),
        (pool, "wram = 1", "./pgdibs.toml, line 2: unknown key `wram` in [pools.shop]; did you mean `warm`?"),
        (
            pool,
            "sql_dir = \"x\"",
            "./pgdibs.toml, line 2: unknown key `sql_dir` in [pools.shop]; it belongs in [pools.NAME.source]",
        ),
        (
            pool,
            "warm = -1",
            "pools.shop.warm (file ./pgdibs.toml line 2): expected a whole number from 0 to 1000, found -1",
        ),
        (
            pool,
            "max = 0",
            "pools.shop.max (file ./pgdibs.toml line 2): expected a whole number from 1 to 1000, found 0",
        ),
        (
            pool,
            "warm = 9\nmax = 8",
            "pools.shop.warm (file ./pgdibs.toml line 2): warm is 9 and max is 8; lower warm or raise max (the defaults are 4 and 32)",
        ),
        (
            pool,
            "warm = 33",
            "pools.shop.warm (file ./pgdibs.toml line 2): warm is 33 and max is 32; lower warm or raise max (the defaults are 4 and 32)",
        ),
        (
            pool,
            "max = 3",
            "pools.shop.max (file ./pgdibs.toml line 2): warm is 4 and max is 3; lower warm or raise max (the defaults are 4 and 32)",
        ),
        (
            pool,
            "strategy = \"copy\"",
            "pools.shop.strategy (file ./pgdibs.toml line 2): `copy` is not a strategy; auto, wal_log and file_copy are",
        ),
        (
            pool,
            "act_as = \"me\"",
            "pools.shop.act_as (file ./pgdibs.toml line 2): `me` is no role to act as; owner and login are",
        ),
        (
            pool,
            "extensions = [{ name = \"pgcrypto\" }]",
            "pools.shop.extensions (file ./pgdibs.toml line 2): expected the name of an extension, or a table such as { name = \"pgcrypto\", schema = \"ext\" }",
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
            "pools.shop.template_max_age_days (file ./pgdibs.toml line 2): expected a whole number from 1 to 3650, found 0",
        ),
        (
            source,
            "",
            "pools.shop.source (file ./pgdibs.toml line 1): expected exactly one of sql_dir, sql_file, command, database, found none",
        ),
        (
            source,
            "sql_dir = \"a\"\nsql_file = \"b\"",
            "pools.shop.source (file ./pgdibs.toml line 1): expected exactly one of sql_dir, sql_file, command, database, found sql_dir and sql_file",
        ),
        (
            source,
            "sqldir = \"a\"",
            "./pgdibs.toml, line 2: unknown key `sqldir` in [pools.shop.source]; did you mean `sql_dir`?",
        ),
        (
            source,
            "command = \"alembic upgrade head\"",
            "pools.shop.source.command (file ./pgdibs.toml line 2): expected an array of the program and its arguments, since no shell splits a string: command = [\"alembic\", \"upgrade\", \"head\"]",
        ),
        (
            source,
            "command = []",
            "pools.shop.source.command (file ./pgdibs.toml line 2): the program is missing: the first string is the program, the others its arguments",
        ),
        (source, "command = 3", "pools.shop.source.command (file ./pgdibs.toml line 2): expected an array of strings"),
        (
            source,
            "command = [\"make\"]",
            "pools.shop.source.inputs (file ./pgdibs.toml line 1): a `command` source needs `inputs`, the globs of the files it reads (such as inputs = [\"migrations/**/*.py\"]): only a change of these files builds the template again, and without them an old schema would be served for ever",
        ),
        (
            source,
            "command = [\"make\"]\ninputs = [\"a/[\"]",
            "pools.shop.source.inputs (file ./pgdibs.toml line 3): `a/[` is not a glob: unclosed character class; missing ']'",
        ),
        (
            source,
            "database = \"x\"\ninputs = [\"a\"]",
            "pools.shop.source.inputs (file ./pgdibs.toml line 3): it has no meaning for a `database` source, which is copied and not run; leave it out",
        ),
        (
            source,
            "sql_dir = \"x\"\nrefresh_seconds = 60",
            "pools.shop.source.refresh_seconds (file ./pgdibs.toml line 3): it has a meaning for a `database` source only; leave it out",
        ),
        (
            source,
            "database = \"x\"\nrefresh_seconds = 9",
            "pools.shop.source.refresh_seconds (file ./pgdibs.toml line 3): expected a whole number from 10 to 31536000, found 9",
        ),
        (
            source,
            "sql_dir = \"x\"\nenv = { PGHOST = \"a\" }",
            "pools.shop.source.env.PGHOST (file ./pgdibs.toml line 3): pgdibs sets this variable itself, to the database that is being built; leave it out, and give another form of it with a command such as [\"sh\", \"-c\", \"OTHER_URL=$PGHOST exec ...\"]",
        ),
        (
            source,
            "sql_dir = \"x\"\nenv = { A = 1 }",
            "pools.shop.source.env.A (file ./pgdibs.toml line 3): expected a string in quotes, found integer",
        ),
        (
            source,
            "sql_dir = \"x\"\nenv = { \"A=B\" = \"1\" }",
            "pools.shop.source.env.A=B (file ./pgdibs.toml line 3): a variable's name is not empty and has no `=` in it, and neither name nor value has a NUL",
        ),
        (
            source,
            "sql_dir = \"x\"\ntimeout_seconds = 0",
            "pools.shop.source.timeout_seconds (file ./pgdibs.toml line 3): expected a whole number from 1 to 86400, found 0",
        ),
    ];
    for (head, line, sentence) in cases {
        assert_eq!(Given::nothing().file(&format!("{head}{line}\n")).error(), sentence, "{head}{line}");
    }
    let long = format!("[pools.{}]", "a".repeat(41));
    assert!(Given::nothing().file(&long).error().contains("1 to 40 characters"));
    assert!(Given::nothing().file(&format!("[pools.{}]", "a".repeat(40))).load().is_ok());
}
