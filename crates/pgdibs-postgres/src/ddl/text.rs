//! SQL text, and how names and constants are quoted in it.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

/// SQL text that was composed here. Several statements run as one implicit transaction, unless one of them may not.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Ddl(pub(super) String);

/// Without the text: a verifier may be in it.
impl std::fmt::Debug for Ddl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ddl(…)")
    }
}

impl Ddl {
    /// The text, for tests that compare it with what Postgres would write.
    #[must_use]
    pub fn as_sql(&self) -> &str {
        &self.0
    }

    /// Runs the text over the simple protocol.
    ///
    /// # Errors
    /// Whatever Postgres says.
    pub async fn run(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.0))).await.map(|_| ())
    }

    /// Appends another statement.
    #[must_use]
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

/// Quotes an identifier as Postgres does: `"` doubled. The name types have already refused NUL and excess length.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string constant. With a backslash the `E''` form is used, which means the same whatever
/// `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
