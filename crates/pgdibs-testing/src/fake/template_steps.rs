//! Steps of the fake backend on templates and pools.

use std::collections::BTreeSet;

use super::catalog::{State, login_of};
use super::server::FakeLogin;
use super::steps::stale;
use super::templates::BUILDER_GRACE_SECONDS;
use pgdibs_core::error::StepError;
use pgdibs_core::lease::Credentials;
use pgdibs_core::name::{DatabaseName, PoolName};
use pgdibs_core::plan::{Step, TemplateRetireReason};
use pgdibs_core::template::{Template, TemplateId, TemplateState};

/// Seconds until the retry of a failed step.
const RETRY_SECONDS: f64 = 2.0;

/// The same as in the planner.
const FAILED_SHOWN_SECONDS: f64 = 3600.0;

type Outcome = Result<(), StepError>;

impl State {
    pub(super) fn record_template_failure(&mut self, step: &Step, text: &str) {
        let now = self.now;
        let Some(row) = step.template().and_then(|id| self.templates.get_mut(&id)) else { return };
        match step {
            Step::CreateBuild { .. } | Step::Seal { .. } if row.seen.state == TemplateState::Building => {
                row.seen.state = TemplateState::Failed;
                row.seen.detail = Some(text.to_owned());
            }
            _ => row.retry_at = now + RETRY_SECONDS,
        }
    }

    pub(super) fn ready_template(&self, id: TemplateId) -> Result<Template, StepError> {
        let template = self.template_in(id, TemplateState::Ready)?;
        if self.pools.get(&template.pool).is_none_or(|pool| pool.dropping) {
            return Err(stale("its pool is being dropped"));
        }
        Ok(template)
    }

    fn template_in(&self, id: TemplateId, state: TemplateState) -> Result<Template, StepError> {
        let row = self.templates.get(&id).ok_or_else(|| stale("the template no longer exists"))?;
        if row.seen.state != state {
            return Err(stale(format!("the template is {}", row.seen.state.as_str())));
        }
        Ok(row.seen.clone())
    }

    /// Whether a builder over HTTP has neither renewed nor had a session for the grace time.
    pub(super) fn builder_is_silent(&self, id: TemplateId) -> bool {
        self.templates.get(&id).is_some_and(|row| {
            row.seen.state == TemplateState::Building
                && self.now - row.last_renewed >= BUILDER_GRACE_SECONDS
                && row.seen.oid.is_none_or(|oid| self.server.sessions_of(oid) == 0)
        })
    }

    pub(super) fn create_build(&mut self, id: TemplateId, halfway: &mut dyn FnMut() -> Outcome) -> Outcome {
        let template = self.template_in(id, TemplateState::Building)?;
        if template.oid.is_some() {
            return Err(stale("its database exists already"));
        }
        let name = template.name.as_str();
        if let Some(pool) = self.pools.get(&template.pool) {
            self.server.owners.insert(pool.settings.owner.to_string());
        }
        // A daemon that died after `create database` left this database. Other roles may have used it since, so it is created again.
        if let Some(unrecorded) = self.server.oid_of(name).filter(|oid| self.server.databases[oid].owned) {
            self.server.drop(unrecorded);
        }
        let oid = self.server.create(name, true, None).map_err(StepError::Failed)?;
        halfway()?;
        let credentials = Credentials { user: login_of(id.0), password: format!("build-{}", id.0).into() };
        let login = FakeLogin { password: credentials.password.clone(), can_login: true };
        self.server.logins.insert(credentials.user.clone(), login);
        self.server.open_to(oid, &[&credentials.user]);
        let now = self.now;
        if let Some(row) = self.templates.get_mut(&id) {
            row.seen.oid = Some(oid);
            row.builder = Some(credentials);
            row.last_renewed = now;
        }
        Ok(())
    }

    pub(super) fn seal(&mut self, id: TemplateId, halfway: &mut dyn FnMut() -> Outcome) -> Outcome {
        let template = self.template_in(id, TemplateState::Building)?;
        if !template.seal_requested {
            return Err(stale("its builder has not requested the seal"));
        }
        let published = DatabaseName::template(&template.pool, &template.fingerprint);
        let oid = template.oid.ok_or_else(|| stale("its database does not exist yet"))?;
        // An interrupted seal starts again. A database that was renamed externally no longer belongs to pgdibs.
        if !self.server.is_named(oid, template.name.as_str()) {
            return Err(StepError::Failed(format!("3D000: database \"{}\" does not exist", template.name)));
        }
        self.server.drop_login(&login_of(id.0));
        self.server.close(oid);
        halfway()?;
        self.server.rename(oid, published.as_str()).map_err(StepError::Failed)?;
        let stamp = self.timestamp();
        let now = self.now;
        if let Some(row) = self.templates.get_mut(&id) {
            row.seen.name = published;
            row.seen.state = TemplateState::Ready;
            row.seen.built_at = Some(stamp);
            row.seen.built_seconds = Some(0.0);
            row.seen.last_used_at = stamp;
            row.last_used = now;
            row.builder = None;
        }
        if let Some(pool) = self.pools.get_mut(&template.pool) {
            pool.current_template = Some(id);
        }
        Ok(())
    }

    pub(super) fn fail_build(&mut self, id: TemplateId, reason: &str) -> Outcome {
        let template = self.template_in(id, TemplateState::Building)?;
        let dropping = self.pools.get(&template.pool).is_some_and(|pool| pool.dropping);
        if !dropping && (template.seal_requested || !self.builder_is_silent(id)) {
            return Err(stale("its builder has renewed"));
        }
        if let Some(row) = self.templates.get_mut(&id) {
            row.seen.state = TemplateState::Failed;
            row.seen.detail = Some(reason.to_owned());
        }
        Ok(())
    }

    pub(super) fn retire_template(&mut self, id: TemplateId, reason: TemplateRetireReason) -> Outcome {
        let template = self.template_in(id, TemplateState::Ready)?;
        let unused = matches!(
            reason,
            TemplateRetireReason::Outnumbered | TemplateRetireReason::TooOld | TemplateRetireReason::Superseded
        );
        let requested = self.tickets.values().any(|ticket| ticket.template == id);
        if unused && (self.live().any(|lease| lease.template == id) || requested) {
            return Err(stale("it is used again"));
        }
        if reason == TemplateRetireReason::Vanished
            && template.oid.is_some_and(|oid| {
                self.server.is_named(oid, template.name.as_str()) && !self.server.databases[&oid].invalid
            })
        {
            return Err(stale("its database exists"));
        }
        if let Some(row) = self.templates.get_mut(&id) {
            row.seen.state = TemplateState::Retiring;
            row.seen.detail = Some(reason.to_string());
        }
        Ok(())
    }

    pub(super) fn drop_template_database(&mut self, id: TemplateId, halfway: &mut dyn FnMut() -> Outcome) -> Outcome {
        let row = self.templates.get(&id).ok_or_else(|| stale("the template no longer exists"))?;
        let template = row.seen.clone();
        let unused = self.now - row.last_used;
        if !matches!(template.state, TemplateState::Retiring | TemplateState::Failed) {
            return Err(stale(format!("the template is {}", template.state.as_str())));
        }
        // Without an oid, the database that a dead daemon left under the name of this row.
        let oid = template.oid.or_else(|| self.server.oid_of(template.name.as_str()));
        let found = oid.and_then(|oid| self.server.databases.get(&oid).map(|found| (oid, found)));
        if let Some((oid, _)) = found.filter(|(_, found)| found.owned && found.name == template.name.as_str()) {
            self.server.drop(oid);
        }
        halfway()?;
        self.server.drop_login(&login_of(id.0));
        let dropping = self.pools.get(&template.pool).is_none_or(|pool| pool.dropping);
        let shown = template.state == TemplateState::Failed && unused < FAILED_SHOWN_SECONDS && !dropping;
        let used = self.databases.values().any(|row| row.seen.template == id);
        if shown || used {
            if let Some(row) = self.templates.get_mut(&id) {
                row.seen.oid = None;
            }
        } else {
            self.templates.remove(&id);
        }
        Ok(())
    }

    pub(super) fn forget_pool(&mut self, pool: &PoolName) -> Outcome {
        let empty = !self.databases.values().any(|row| &row.seen.pool == pool)
            && !self.templates.values().any(|row| &row.seen.pool == pool);
        if !empty || !self.pools.get(pool).is_some_and(|found| found.dropping) {
            return Err(stale("the pool is not empty"));
        }
        self.pools.remove(pool);
        self.reports.retain(|report| &report.pool != pool);
        let used: BTreeSet<String> = self.pools.values().map(|pool| pool.settings.owner.to_string()).collect();
        self.server.owners.retain(|owner| used.contains(owner));
        Ok(())
    }
}
