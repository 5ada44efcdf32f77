//! Requests for pools and templates; each is one transaction on the fake catalog.

use super::catalog::{State, TemplateRow};
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::Error;
use pgdibs_core::inputs::Inputs;
use pgdibs_core::lease::LeaseState;
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName};
use pgdibs_core::pool::{Pool, PoolPatch, PoolSettings};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{Template, TemplateId, TemplateState};

/// A build fails after its builder has neither renewed nor had a session for this long.
pub(super) const BUILDER_GRACE_SECONDS: f64 = 60.0;

impl State {
    pub(super) fn put_pool(&mut self, name: &PoolName, patch: &PoolPatch) -> Result<(Pool, bool), Error> {
        let existing = self.pools.get(name).filter(|pool| !pool.dropping);
        let base = existing.map_or_else(|| PoolSettings::of(name), |pool| pool.settings.clone());
        let settings = patch.apply(&base)?;
        let sourced = patch.sourced.unwrap_or(existing.is_some_and(|pool| pool.sourced));
        let made = existing.is_none();
        if made {
            let names = self.foreign(name);
            if !names.is_empty() {
                return Err(Error::ForeignDatabases { pool: name.as_str().to_owned(), names });
            }
        }
        let current_template = existing.and_then(|pool| pool.current_template);
        let pool = Pool { name: name.clone(), settings, sourced, dropping: false, unused_seconds: 0, current_template };
        self.pools_used.insert(name.clone(), self.now);
        let max = pool.settings.max as usize;
        self.pools.insert(name.clone(), pool.clone());
        self.retire_above(name, max);
        Ok((pool, made))
    }

    /// Retires ready databases above a lowered `max`, the highest slots first.
    fn retire_above(&mut self, pool: &PoolName, max: usize) {
        let mut ready: Vec<_> = Vec::new();
        let mut in_use = 0;
        for row in self.databases.values_mut().map(|row| &mut row.seen).filter(|seen| &seen.pool == pool) {
            in_use += usize::from(matches!(row.state, DatabaseState::Ready | DatabaseState::Leased));
            ready.extend((row.state == DatabaseState::Ready).then_some(row));
        }
        ready.sort_by_key(|row| std::cmp::Reverse(row.slot));
        for row in ready.into_iter().take(in_use.saturating_sub(max)) {
            row.state = DatabaseState::Retiring;
            row.reason = Some("the max of its pool was lowered".to_owned());
        }
    }

    pub(super) fn drop_pool(&mut self, name: &PoolName, force: bool) -> Result<(), Error> {
        self.pool(name)?;
        let (live, holders) = self.holders(|lease| &lease.pool == name);
        if live > 0 && !force {
            return Err(Error::PoolInUse { pool: name.as_str().to_owned(), live, holders });
        }
        let leases: Vec<_> = self.live().filter(|lease| &lease.pool == name).map(|lease| lease.id).collect();
        for lease in leases {
            self.end(lease, LeaseState::Revoked, "its pool was dropped by force")?;
        }
        self.tickets.retain(|_, ticket| &ticket.pool != name);
        if let Some(pool) = self.pools.get_mut(name) {
            pool.dropping = true;
        }
        Ok(())
    }

    pub(super) fn put_template(
        &mut self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        holder: &str,
        token: &str,
    ) -> Result<TemplatePut, Error> {
        self.pool(pool)?;
        self.pools_used.insert(pool.clone(), self.now);
        if let Some(id) = self.current(pool, fingerprint).map(|row| row.seen.id) {
            let now = self.now;
            let stamp = self.timestamp();
            let Some(row) = self.templates.get_mut(&id) else {
                return Err(Error::Internal("the row of the template disappeared".to_owned()));
            };
            row.last_used = now;
            row.seen.last_used_at = stamp;
            if row.seen.state == TemplateState::Ready
                && let Some(pool) = self.pools.get_mut(pool)
            {
                pool.current_template = Some(id);
            }
            return Ok(match row.seen.state {
                TemplateState::Ready => TemplatePut::Ready(row.seen.clone()),
                _ if row.token == token => TemplatePut::Yours(row.seen.clone()),
                _ => TemplatePut::Building(row.seen.clone()),
            });
        }
        // A new build replaces the row of an earlier failure, unless its database still exists.
        let replaced: Vec<TemplateId> = self
            .templates
            .values()
            .filter(|row| {
                &row.seen.pool == pool
                    && &row.seen.fingerprint == fingerprint
                    && row.seen.state == TemplateState::Failed
                    && row.seen.oid.is_none()
                    && self.server.oid_of(row.seen.name.as_str()).is_none()
            })
            .map(|row| row.seen.id)
            .collect();
        for id in replaced {
            self.templates.remove(&id);
        }
        let id = TemplateId(self.next_number());
        let seen = Template {
            id,
            pool: pool.clone(),
            fingerprint: fingerprint.clone(),
            state: TemplateState::Building,
            name: DatabaseName::build(pool, id.0),
            oid: None,
            holder: holder.to_owned(),
            seal_requested: false,
            builder_silent: false,
            build_started_at: self.timestamp(),
            built_seconds: None,
            built_at: None,
            size_bytes: None,
            relations: None,
            last_used_at: self.timestamp(),
            unused_seconds: 0,
            leased: false,
            strategy: None,
            measured: Vec::new(),
            clone_seconds: None,
            clone_bytes: None,
            collations_changed: false,
            clone_error: None,
            input_changes: None,
            detail: None,
            due: true,
        };
        let row = TemplateRow {
            seen: seen.clone(),
            token: token.to_owned(),
            builder: None,
            last_renewed: self.now,
            last_used: self.now,
            retry_at: 0.0,
            log: None,
            inputs: Inputs::new(),
        };
        self.templates.insert(id, row);
        Ok(TemplatePut::Yours(seen))
    }

    pub(super) fn build_place(&self, template: TemplateId, token: &str) -> Result<Option<BuildPlace>, Error> {
        let row = self
            .templates
            .get(&template)
            .filter(|row| row.token == token && row.seen.state != TemplateState::Failed)
            .ok_or_else(|| Error::BuildTokenStale("another build replaced it, or it expired".to_owned()))?;
        if row.seen.state != TemplateState::Building {
            return Err(Error::TemplateNotBuilding(format!("the template is {}", row.seen.state.as_str())));
        }
        Ok(row.seen.oid.and(row.builder.clone()).map(|credentials| BuildPlace {
            template,
            database: row.seen.name.clone(),
            credentials,
            expires_at: super::catalog::timestamp(row.last_renewed + BUILDER_GRACE_SECONDS),
        }))
    }

    /// The row of the build with this token.
    fn by_token(&mut self, pool: &PoolName, fingerprint: &Fingerprint, token: &str) -> Result<&mut TemplateRow, Error> {
        self.pool(pool)?;
        let known = self.templates.values().any(|row| &row.seen.pool == pool && &row.seen.fingerprint == fingerprint);
        if !known {
            return Err(Error::TemplateNotFound(format!("pool \"{pool}\" has no template \"{fingerprint}\"")));
        }
        self.templates
            .values_mut()
            .find(|row| {
                &row.seen.pool == pool
                    && &row.seen.fingerprint == fingerprint
                    && row.token == token
                    && matches!(row.seen.state, TemplateState::Building | TemplateState::Ready)
            })
            .ok_or_else(|| Error::BuildTokenStale("the build expired, was abandoned or was replaced".to_owned()))
    }

    pub(super) fn renew_build(
        &mut self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
    ) -> Result<Template, Error> {
        let now = self.now;
        let row = self.by_token(pool, fingerprint, token)?;
        if row.seen.state != TemplateState::Building {
            return Err(Error::TemplateNotBuilding("the template is already sealed".to_owned()));
        }
        row.last_renewed = now;
        Ok(row.seen.clone())
    }

    pub(super) fn request_seal(
        &mut self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
    ) -> Result<Template, Error> {
        let now = self.now;
        let row = self.by_token(pool, fingerprint, token)?;
        row.last_renewed = now;
        row.seen.seal_requested = true;
        Ok(row.seen.clone())
    }

    pub(super) fn abandon_build(
        &mut self,
        pool: &PoolName,
        fingerprint: &Fingerprint,
        token: &str,
        detail: &str,
    ) -> Result<(), Error> {
        let row = self.by_token(pool, fingerprint, token)?;
        if row.seen.state != TemplateState::Building {
            return Err(Error::TemplateNotBuilding("the template is already sealed".to_owned()));
        }
        row.seen.state = TemplateState::Failed;
        row.seen.detail = Some(detail.to_owned());
        Ok(())
    }

    pub(super) fn drop_template(&mut self, pool: &PoolName, fingerprint: &Fingerprint) -> Result<(), Error> {
        self.pool(pool)?;
        let ids: Vec<TemplateId> = self
            .templates
            .values()
            .filter(|row| {
                &row.seen.pool == pool
                    && &row.seen.fingerprint == fingerprint
                    && row.seen.state != TemplateState::Retiring
            })
            .map(|row| row.seen.id)
            .collect();
        if ids.is_empty() {
            return Err(Error::TemplateNotFound(format!("pool \"{pool}\" has no template \"{fingerprint}\"")));
        }
        let (live, holders) = self.holders(|lease| ids.contains(&lease.template));
        if live > 0 {
            return Err(Error::TemplateInUse { live, holders });
        }
        self.tickets.retain(|_, ticket| !ids.contains(&ticket.template));
        for id in ids {
            if let Some(row) = self.templates.get_mut(&id) {
                row.seen.state = TemplateState::Retiring;
                row.seen.detail = Some("it was dropped by a request".to_owned());
            }
        }
        Ok(())
    }
}
