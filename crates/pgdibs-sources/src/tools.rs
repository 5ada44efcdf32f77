//! Migration tools whose files psql must not run: the marks in their files, and the commands that run them.

use std::path::Path;

/// A migration tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: &'static str,
    /// The value of `command`, as in a TOML file, and what else it needs: programs with Go's lib/pq demand TLS unless told otherwise, by
    /// `sslmode` in a URL or this variable. `{}` stands for the directory of the files.
    command: &'static str,
}

/// Flyway takes its variables from no `PG*`.
pub(super) const FLYWAY: Tool = Tool {
    name: "Flyway",
    command: r#"["sh", "-c", 'flyway -url="jdbc:postgresql://$PGHOST:$PGPORT/$PGDATABASE" -user="$PGUSER" -password="$PGPASSWORD" -locations=filesystem:{} migrate']"#,
};

/// Beginnings of comments, in lower case and without the dashes, and whose they are.
static MARKS: [(&[&str], Tool); 16] = [
    (
        &["migrate:up", "migrate:down"],
        Tool {
            name: "dbmate",
            command: r#"["dbmate", "--no-dump-schema", "--migrations-dir", "{}", "up"], env = { PGSSLMODE = "disable" }"#,
        },
    ),
    (
        &["+goose up", "+goose down", "+goose statementbegin", "+goose no transaction", "+goose envsub"],
        Tool { name: "goose", command: r#"["sh", "-c", 'goose -dir {} postgres "$DATABASE_URL" up']"# },
    ),
    (
        &["+migrate up", "+migrate down", "+migrate statementbegin"],
        Tool { name: "sql-migrate", command: r#"["sql-migrate", "up"], env = { PGSSLMODE = "disable" }"# },
    ),
    (
        &["+micrate up", "+micrate down", "+micrate statementbegin"],
        Tool { name: "micrate", command: r#"["micrate", "up"]"# },
    ),
    (&["//@undo", "// @undo"], Tool { name: "MyBatis Migrations", command: r#"["migrate", "up"]"# }),
    (
        &["liquibase formatted sql"],
        Tool {
            name: "Liquibase",
            command: r#"["sh", "-c", 'liquibase --url="jdbc:postgresql://$PGHOST:$PGPORT/$PGDATABASE" --username="$PGUSER" --password="$PGPASSWORD" --changelog-file=CHANGELOG update']"#,
        },
    ),
    (&["rambler up", "rambler down"], Tool { name: "rambler", command: r#"["rambler", "apply", "--all"]"# }),
    (
        &["up migration", "down migration"],
        Tool { name: "node-pg-migrate", command: r#"["npx", "node-pg-migrate", "up", "--migrations-dir", "{}"]"# },
    ),
    (&["create above / drop below"], Tool { name: "tern", command: r#"["tern", "migrate", "--migrations", "{}"]"# }),
    (&["==== up ====", "==== down ===="], Tool { name: "shmig", command: r#"["shmig", "up"]"# }),
    (&["upgrade --", "downgrade --"], Tool { name: "aerich", command: r#"["aerich", "upgrade"]"# }),
    (
        &["atlas:txtar"],
        Tool {
            name: "Atlas",
            command: r#"["sh", "-c", 'atlas migrate apply --dir "file://{}" --url "$DATABASE_URL"']"#,
        },
    ),
    (&["! include", "!include"], Tool { name: "graphile-migrate", command: r#"["graphile-migrate", "migrate"]"# }),
    (&["deploy "], Tool { name: "Sqitch", command: r#"["sqitch", "deploy", "db:pg:"]"# }),
    // Play applies its evolutions when the application starts, so the program is the application's.
    (&["!ups", "!downs"], Tool { name: "Play evolutions", command: r#"["THE PROGRAM THAT APPLIES THE EVOLUTIONS"]"# }),
    // Several tools, such as dbschema of Erlang.
    (&["down", "@down", "+down"], Tool { name: "a migration tool", command: r#"["THE COMMAND OF THAT TOOL"]"# }),
];

/// The tool whose mark this line is.
pub(super) fn of_line(line: &[u8]) -> Option<&'static Tool> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    // Play's marks may begin with `#`, which is no comment for Postgres.
    if !(line.starts_with(b"--") || line.starts_with(b"#")) || line.len() > 200 {
        return None;
    }
    let text = String::from_utf8_lossy(line).to_lowercase();
    let text = text.trim_start_matches(['-', '#', ' ', '\t']);
    let is_mark = |mark: &&str| match *mark {
        // The first line of each of its files: `-- Deploy project:change to pg`.
        "deploy " => text.starts_with("deploy ") && text.ends_with(" to pg"),
        // Ordinary words: only a line of nothing else is a mark.
        "up migration" | "down migration" | "down" | "@down" | "+down" => text == *mark,
        _ => text.starts_with(mark),
    };
    MARKS.iter().find(|(marks, _)| marks.iter().any(is_mark)).map(|(_, tool)| tool)
}

/// The setting of a source that names SQL files, for messages about them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// `sql_dir` or `sql_file`.
    pub(super) key: &'static str,
    /// The directory of the files.
    pub(super) files: &'a Path,
    /// The directory of the configuration file.
    pub(super) base: &'a Path,
}

impl Place<'_> {
    /// The directory as an error shows it.
    pub(super) fn directory(&self) -> String {
        self.files.display().to_string()
    }

    /// A file of the directory as an error shows it.
    pub(super) fn shown(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// What to write in the configuration in place of this setting.
    pub(super) fn instead(&self, tool: &Tool) -> String {
        let relative = self.files.strip_prefix(self.base).unwrap_or(self.files).display().to_string();
        let directory = if relative.is_empty() { "." } else { &relative };
        let glob = if relative.is_empty() { "**".to_owned() } else { format!("{relative}/**") };
        let command = tool.command.replace("{}", directory);
        format!(
            "let {} build the template: replace {} by command = {command} and inputs = [\"{glob}\"]",
            tool.name, self.key
        )
    }
}
