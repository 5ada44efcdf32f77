//! SQL text, and the quoting of names and constants.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Transaction};

/// Composed SQL text. Several statements run as one implicit transaction.
#[derive(Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Ddl(pub(super) String);

/// Without the text, which may have a verifier in it.
impl std::fmt::Debug for Ddl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ddl(…)")
    }
}

impl Ddl {
    pub fn as_sql(&self) -> &str {
        &self.0
    }

    /// Runs the text over the simple protocol.
    pub async fn run(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.0))).await.map(|_| ())
    }

    /// Begins a transaction with this text, in one message. After an error the transaction is still open.
    pub async fn start_transaction<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        connection.begin_with(AssertSqlSafe(format!("begin; {}", self.0))).await
    }

    pub fn then(mut self, next: Self) -> Self {
        if !self.0.is_empty() && !next.0.is_empty() {
            self.0.push_str("; ");
        }
        self.0.push_str(&next.0);
        self
    }

    pub(super) fn of(text: String) -> Self {
        Self(text)
    }
}

/// Quotes an identifier as Postgres does: `"` doubled. The name types refuse NUL and excess length.
pub(super) fn ident(name: impl std::fmt::Display) -> String {
    format!("\"{}\"", name.to_string().replace('"', "\"\""))
}

/// Quotes a string constant. With a backslash in the `E''` form, which does not depend on `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
