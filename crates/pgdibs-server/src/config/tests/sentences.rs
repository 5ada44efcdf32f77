//! Every sentence about the settings outside pools, word for word.

use super::Given;

/// Refusals of a value in a variable.
#[test]
fn wrong_variable_is_refused() {
    let cases = [
        (
            "PGDIBS_LISTEN",
            "7432",
            "listen (environment PGDIBS_LISTEN): `7432` is not an address; write HOST:PORT, an IPv6 address as [::1]:7432",
        ),
        (
            "PGDIBS_LISTEN",
            "::1:7432",
            "listen (environment PGDIBS_LISTEN): `::1:7432` is not an address; write HOST:PORT, an IPv6 address as [::1]:7432",
        ),
        (
            "PGDIBS_LISTEN",
            "[localhost]:1",
            "listen (environment PGDIBS_LISTEN): `[localhost]:1` is not an address; write HOST:PORT, an IPv6 address as [::1]:7432",
        ),
        (
            "PGDIBS_LISTEN",
            "localhost:+1",
            "listen (environment PGDIBS_LISTEN): `localhost:+1` is not an address; write HOST:PORT, an IPv6 address as [::1]:7432",
        ),
        (
            "PGDIBS_LISTEN",
            "localhost:65536",
            "listen (environment PGDIBS_LISTEN): port 65536 is out of range; ports go from 0 to 65535",
        ),
        (
            "PGDIBS_LISTEN",
            "0.0.0.0:7432",
            "listen (environment PGDIBS_LISTEN): 0.0.0.0:7432 can be reached from other machines, and without a token each of them can lease databases; set a token (PGDIBS_TOKEN or PGDIBS_TOKEN_FILE), or pass --insecure-no-token (PGDIBS_INSECURE_NO_TOKEN=true) where every machine around it is trusted",
        ),
        (
            "PGDIBS_INSECURE_NO_TOKEN",
            "maybe",
            "insecure_no_token (environment PGDIBS_INSECURE_NO_TOKEN): expected true or false, found string \"maybe\"",
        ),
        (
            "PGDIBS_MAX_TTL_SECONDS",
            "0",
            "max_ttl_seconds (environment PGDIBS_MAX_TTL_SECONDS): expected a whole number from 1 to 86400, found 0",
        ),
        (
            "PGDIBS_IDLE_SECONDS",
            "5m",
            "idle_seconds (environment PGDIBS_IDLE_SECONDS): expected a whole number from 1 to 86400, found \"5m\"",
        ),
        (
            "PGDIBS_DISK_FLOOR_MB",
            "-1",
            "disk_floor_mb (environment PGDIBS_DISK_FLOOR_MB): expected a whole number from 0 to 10000000, found -1",
        ),
        (
            "PGDIBS_LINGER_SECONDS",
            "99999999999999999999",
            "linger_seconds (environment PGDIBS_LINGER_SECONDS): expected a whole number from 0 to 86400, found \"99999999999999999999\"",
        ),
        (
            "PGDIBS_BUILD_TIMEOUT_SECONDS",
            "86401",
            "build_timeout_seconds (environment PGDIBS_BUILD_TIMEOUT_SECONDS): expected a whole number from 1 to 86400, found 86401",
        ),
        (
            "PGDIBS_LOG",
            "info,pgdibs=loud",
            "log (environment PGDIBS_LOG): `info,pgdibs=loud` is not a filter; write a level (error, warn, info, debug, trace) or parts with levels (info,pgdibs=debug)",
        ),
        (
            "PGDIBS_LOG_FORMAT",
            "xml",
            "log_format (environment PGDIBS_LOG_FORMAT): unknown variant `xml`, expected one of `auto`, `text`, `json`",
        ),
        (
            "PGDIBS_POSTGRES_LISTEN",
            "localhost:5432",
            "postgres_listen (environment PGDIBS_POSTGRES_LISTEN): `localhost:5432` is not an IP address and a port; write 0.0.0.0:5432, an IPv6 address as [::]:5432, or leave it out for loopback and a port of its own",
        ),
        (
            "PGDIBS_POSTGRES_LISTEN",
            "0.0.0.0:0",
            "postgres_listen (environment PGDIBS_POSTGRES_LISTEN): `0.0.0.0:0` is not an IP address and a port; write 0.0.0.0:5432, an IPv6 address as [::]:5432, or leave it out for loopback and a port of its own",
        ),
        (
            "PGDIBS_ALLOWED_HOSTS",
            "ok,https://ci/",
            "allowed_hosts (environment PGDIBS_ALLOWED_HOSTS): `https://ci/` is not a host name; write names alone, without a scheme, port, path or *, such as pgdibs,ci.example.com",
        ),
        (
            "PGDIBS_ALLOWED_HOSTS",
            "*",
            "allowed_hosts (environment PGDIBS_ALLOWED_HOSTS): `*` is not a host name; write names alone, without a scheme, port, path or *, such as pgdibs,ci.example.com",
        ),
        (
            "PGDIBS_TOKEN",
            "a b",
            "token (environment PGDIBS_TOKEN): a token is visible ASCII characters without blanks, since it travels in a header; make one with `openssl rand -hex 24`",
        ),
        (
            "PGDIBS_TOKEN",
            " ",
            "token (environment PGDIBS_TOKEN): a token is visible ASCII characters without blanks, since it travels in a header; make one with `openssl rand -hex 24`",
        ),
        (
            "PGDIBS_SERVER_URL",
            "localhost:5432",
            "server_url (environment PGDIBS_SERVER_URL): this is not a URL of Postgres; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, special characters of the password percent-encoded",
        ),
        (
            "PGDIBS_TOKEN_FILE",
            "none",
            "token_file (environment PGDIBS_TOKEN_FILE): cannot read DIR/none: No such file or directory (os error 2); correct the path or its permissions",
        ),
        (
            "PGDIBS_TOKEN_FILE",
            "empty",
            "token_file (environment PGDIBS_TOKEN_FILE): DIR/empty is empty; write the secret into it or leave the setting out",
        ),
        (
            "PGDIBS_ADVERTISE",
            "a:1,b:2",
            "advertise (environment PGDIBS_ADVERTISE): `a:1` and `b:2` are both without a name; only one can be the default, name the other (network=b:2)",
        ),
        (
            "PGDIBS_ADVERTISE",
            "n=a:1,n=b:2",
            "advertise (environment PGDIBS_ADVERTISE): the name `n` is there twice; give each address its own name",
        ),
        (
            "PGDIBS_ADVERTISE",
            "Net=a:1",
            "advertise (environment PGDIBS_ADVERTISE): `Net` is not a name for an address; a name is a small letter, then small letters, digits, _ or -",
        ),
        (
            "PGDIBS_ADVERTISE",
            "default=a:1",
            "advertise (environment PGDIBS_ADVERTISE): the default address has no name; write `a:1` alone",
        ),
        (
            "PGDIBS_ADVERTISE",
            "n=a:0",
            "advertise (environment PGDIBS_ADVERTISE): `a:0` has port 0; an address that is handed out needs its real port",
        ),
        (
            "PGDIBS_ADVERTISE",
            "n=fe80::1:5432",
            "advertise (environment PGDIBS_ADVERTISE): `fe80::1:5432` is not an address; write HOST:PORT, an IPv6 address as [::1]:7432",
        ),
        (
            "PGDIBS_CONFIG",
            "missing.toml",
            "environment PGDIBS_CONFIG: cannot read the configuration file missing.toml: No such file or directory (os error 2); correct the path or leave it out (then ./pgdibs.toml is read if it exists)",
        ),
    ];
    for (variable, value, sentence) in cases {
        let given = Given::nothing().file_at("empty", "\n").variable(variable, value);
        assert_eq!(given.error(), sentence);
    }
}

#[test]
fn secret_beside_its_file_is_refused() {
    let given = Given::nothing().variable("PGDIBS_TOKEN", "a").variable("PGDIBS_TOKEN_FILE", "t");
    assert_eq!(
        given.error(),
        "token_file (environment PGDIBS_TOKEN_FILE): token is given beside it, and only one can count; leave one out"
    );
}

#[test]
fn listen_beyond_loopback_needs_token_or_consent() {
    for listen in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "myhost:1"] {
        let given = Given::nothing().flags(&["--listen", listen]);
        assert!(given.error().starts_with(&format!("listen (flag --listen): {listen} can be reached")), "{listen}");
        assert!(given.variable("PGDIBS_TOKEN", "t").load().is_ok(), "{listen}");
        assert!(Given::nothing().flags(&["--listen", listen, "--insecure-no-token"]).load().is_ok(), "{listen}");
    }
    for listen in ["127.9.9.9:0", "[::1]:1", "LocalHost:1", "[::ffff:127.0.0.1]:1"] {
        assert!(Given::nothing().flags(&["--listen", listen]).load().is_ok(), "{listen}");
    }
}

/// Refusals of a file.
#[test]
fn wrong_file_is_refused() {
    let cases = [
        (
            "a = 1\nlisten = \n",
            "./pgdibs.toml, line 2, column 10: this is not valid TOML: string values must be quoted, expected literal string",
        ),
        ("[pools.x\nwarm = 1", "./pgdibs.toml, line 1, column 9: this is not valid TOML: unclosed table, expected `]`"),
        (
            "é = 1",
            "./pgdibs.toml, line 1, column 1: this is not valid TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
        ),
        ("log = \"a\"\nlog = \"b\"", "./pgdibs.toml, line 2, column 1: this is not valid TOML: duplicate key"),
        (
            "# x\nlisten_on = \"a\"",
            "./pgdibs.toml, line 2: unknown key `listen_on` at the top of the file; did you mean `listen`?",
        ),
        (
            "server-url = \"a\"",
            "./pgdibs.toml, line 1: unknown key `server-url` at the top of the file; did you mean `server_url`?",
        ),
        (
            "log = \"info\"\nwarm = 3",
            "./pgdibs.toml, line 2: unknown key `warm` at the top of the file; it belongs in [pools.NAME]",
        ),
        (
            "sql_dir = \"x\"",
            "./pgdibs.toml, line 1: unknown key `sql_dir` at the top of the file; it belongs in [pools.NAME.source]",
        ),
        ("[pool.x]", "./pgdibs.toml, line 1: unknown key `pool` at the top of the file; did you mean `pools`?"),
        ("pools = 3", "pools (file ./pgdibs.toml line 1): expected a table, found integer"),
        ("listen = 7432", "listen (file ./pgdibs.toml line 1): expected a string in quotes, found integer"),
        (
            "data_dir = \"\"",
            "data_dir (file ./pgdibs.toml line 1): the value is empty; give a path or leave the setting out",
        ),
        (
            "idle_seconds = \"300\"",
            "idle_seconds (file ./pgdibs.toml line 1): expected a whole number from 1 to 86400, found \"300\"",
        ),
        (
            "idle_seconds = 1.5",
            "idle_seconds (file ./pgdibs.toml line 1): expected a whole number from 1 to 86400, found 1.5",
        ),
        (
            "idle_seconds = 99999999999999999999",
            "./pgdibs.toml, line 1, column 16: this is not valid TOML: numbers have at most 64 bits",
        ),
        (
            "insecure_no_token = \"yes\"",
            "insecure_no_token (file ./pgdibs.toml line 1): expected true or false, found string \"yes\"",
        ),
        ("allowed_hosts = [1]", "allowed_hosts (file ./pgdibs.toml line 1): expected an array of strings"),
        ("allowed_hosts = true", "allowed_hosts (file ./pgdibs.toml line 1): expected an array of strings"),
        ("stop_server = true", "./pgdibs.toml, line 1: unknown key `stop_server` at the top of the file; known here: "),
    ];
    for (file, sentence) in cases {
        let error = Given::nothing().file(file).error();
        if sentence.ends_with("known here: ") {
            assert!(error.starts_with(sentence), "{error}");
        } else {
            assert_eq!(error, sentence);
        }
    }
}

#[test]
fn directory_as_config_file_is_refused() {
    let given = Given::nothing().flags(&["--config", "."]);
    assert_eq!(
        given.error(),
        "flag --config: cannot read the configuration file .: Is a directory (os error 21); correct the path or leave it out (then ./pgdibs.toml is read if it exists)"
    );
}

#[test]
fn unknown_variable_gives_a_warning() {
    let given = Given::nothing()
        .variable("PGDIBS_LISTN", "x")
        .variable("PGDIBS_POOL_SHAPE", "x")
        .variable("PGDIBS_URL", "x")
        .variable("PGDIBS_TEST_ANYTHING", "x")
        .variable("PGDIBS_SLOT", "x")
        .variable("PGDIBS_BIN", "x")
        .variable("PGDIBS_POOL", "x")
        .variable("PGDIBS_PLUGIN_STATE", "x")
        .variable("PGDIBSX", "x")
        .variable("PATH", "x");
    assert_eq!(
        given.load().unwrap().warnings,
        [
            "the variable PGDIBS_LISTN is not known and has no effect; did you mean PGDIBS_LISTEN?",
            "the variable PGDIBS_POOL_SHAPE is not known and has no effect; `pgdibs config` lists the settings",
        ]
    );
}
