//! Tickets: places in the wait queue. A ticket counts while its daemon holds its membership lock.

use pgdibs_core::error::Error;
use pgdibs_core::request::{TargetTemplate, TicketHolder, TicketId, TicketKind};

use crate::context::PgBackend;

pub(crate) async fn take(
    backend: &PgBackend,
    wanted: &TargetTemplate,
    count: u32,
    kind: TicketKind,
    holder: &TicketHolder,
) -> Result<TicketId, sqlx::Error> {
    let kind = match kind {
        TicketKind::Acquire => "acquire",
        TicketKind::Exact => "exact",
        TicketKind::Reset => "reset",
    };
    sqlx::query_scalar(
        "insert into tickets (pool, template_id, count, kind, daemon, run, worker, holder) values ($1, $2, $3, $4, $5, $6, $7, $8) returning id",
    )
    .bind(wanted.pool.as_str())
    .bind(wanted.template.0)
    .bind(i32::try_from(count).unwrap_or(i32::MAX))
    .bind(kind)
    .bind(backend.instance())
    .bind(holder.run.as_deref())
    .bind(holder.worker.as_deref())
    .bind(&holder.holder)
    .fetch_one(&backend.catalog())
    .await
    .map(TicketId)
}

impl PgBackend {
    /// Deletes this daemon's tickets except those of the callers that wait; returns how many, and how many are left. A ticket whose deletion
    /// failed, because the server was unavailable then, would block the tickets behind it while this daemon runs. Tickets younger than 5 s
    /// stay: the answer to the caller that took one may be in progress.
    pub async fn forget_tickets_but(&self, waiting: &[TicketId]) -> Result<(i64, i64), Error> {
        let waiting: Vec<i64> = waiting.iter().map(|ticket| ticket.0).collect();
        let catalog = self.catalog();
        let deleting = sqlx::query_as(
            "with deleted as (
                 delete from tickets t where daemon = $1 and created_at < clock_timestamp() - interval '5 s'
                   and not exists (select from unnest($2) w (id) where w.id = t.id)
                 returning id)
             select (select count(*) from deleted),
                    (select count(*) from tickets where daemon = $1) - (select count(*) from deleted)",
        )
        .bind(self.instance())
        .bind(waiting)
        .fetch_one(&catalog);
        self.within(deleting).await
    }
}

pub(crate) async fn give_up(backend: &PgBackend, ticket: TicketId) -> Result<(), sqlx::Error> {
    sqlx::query("delete from tickets where id = $1").bind(ticket.0).execute(&backend.catalog()).await?;
    Ok(())
}
