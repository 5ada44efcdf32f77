//! Tickets: the places of those who wait. A ticket counts for as long as its daemon's presence lock is held.

use pgdibs_core::error::Error;
use pgdibs_core::request::{TargetTemplate, TicketId, TicketKind};

use crate::context::{PgBackend, answer};

pub(crate) async fn take(
    backend: &PgBackend,
    wanted: &TargetTemplate,
    count: u32,
    kind: TicketKind,
) -> Result<TicketId, sqlx::Error> {
    let kind = match kind {
        TicketKind::Acquire => "acquire",
        TicketKind::Exact => "exact",
        TicketKind::Reset => "reset",
    };
    sqlx::query_scalar(
        "insert into tickets (pool, template_id, count, kind, daemon) values ($1, $2, $3, $4, $5) returning id",
    )
    .bind(wanted.pool.as_str())
    .bind(wanted.template.0)
    .bind(i32::try_from(count).unwrap_or(i32::MAX))
    .bind(kind)
    .bind(backend.connections.instance)
    .fetch_one(&backend.connections.catalog)
    .await
    .map(TicketId)
}

/// See [`PgBackend::forget_tickets_but`].
async fn forget_all_but(backend: &PgBackend, waiting: &[TicketId]) -> Result<u64, sqlx::Error> {
    let waiting: Vec<i64> = waiting.iter().map(|ticket| ticket.0).collect();
    sqlx::query(
        "delete from tickets where daemon = $1 and id <> all($2) and created_at < clock_timestamp() - interval '5 s'",
    )
    .bind(backend.connections.instance)
    .bind(waiting)
    .execute(&backend.connections.catalog)
    .await
    .map(|done| done.rows_affected())
}

impl PgBackend {
    /// Deletes this daemon's tickets but those of the callers that wait; gives their number. A ticket that could not be given
    /// up, because the server was away just then, would hold up everybody behind it for as long as this daemon lives. Young ones
    /// stay: the answer to their taker may be under way.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`].
    pub async fn forget_tickets_but(&self, waiting: &[TicketId]) -> Result<u64, Error> {
        self.within(async { answer(forget_all_but(self, waiting).await) }).await
    }
}

pub(crate) async fn give_up(backend: &PgBackend, ticket: TicketId) -> Result<(), sqlx::Error> {
    sqlx::query("delete from tickets where id = $1")
        .bind(ticket.0)
        .execute(&backend.connections.catalog)
        .await
        .map(|_| ())
}
