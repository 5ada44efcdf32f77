//! Reports of runs, and the inputs of templates, on the fake catalog.

use super::catalog::State;
use pgdibs_core::backend::REPORTS_KEPT;
use pgdibs_core::error::Error;
use pgdibs_core::inputs::{InputChanges, Inputs};
use pgdibs_core::name::{InvalidName, PoolName};
use pgdibs_core::request::{ReportedRun, RunReport};
use pgdibs_core::template::TemplateId;

impl State {
    pub(super) fn record_inputs(&mut self, template: TemplateId, inputs: &Inputs) -> Option<InputChanges> {
        let row = self.templates.get(&template)?;
        let own = (row.seen.built_at, template);
        let earlier = self.templates.values().filter(|other| {
            other.seen.pool == row.seen.pool
                && other.seen.built_at.is_some()
                && (own.0.is_none() || (other.seen.built_at, other.seen.id) < own)
                && !other.inputs.is_empty()
        });
        let before = earlier.max_by_key(|other| (other.seen.built_at, other.seen.id));
        let changes = before.map(|other| InputChanges::between(other.seen.fingerprint.clone(), &other.inputs, inputs));
        let row = self.templates.get_mut(&template)?;
        if row.inputs.is_empty() {
            row.inputs.clone_from(inputs);
            row.seen.input_changes.clone_from(&changes);
        }
        changes
    }

    pub(super) fn report_run(&mut self, report: &RunReport) -> Result<(), Error> {
        if let Some(pool) = &report.pool {
            self.pool(pool)?;
        }
        let leased = self.leases.values().filter(|row| row.seen.run.as_ref() == Some(&report.run));
        let (mut pools, mut templates) = (Vec::from_iter(report.pool.clone()), Vec::new());
        for row in leased {
            pools.push(row.seen.pool.clone());
            templates.push(row.seen.template);
        }
        let announced = self.runs.get(&report.run).filter(|row| !row.ended).and_then(|row| row.announced.as_ref());
        pools.extend(announced.map(|(pool, ..)| pool.clone()));
        pools.retain(|pool| self.pool(pool).is_ok());
        pools.sort();
        pools.dedup();
        if pools.is_empty() {
            let rule = "must be named, because the run has neither announced nor leased anything".to_owned();
            return Err(Error::Invalid(InvalidName { field: "pool", rule }));
        }
        for pool in pools {
            self.reports.retain(|kept| (&kept.run, &kept.pool) != (&report.run, &pool));
            let of_pool = self.reports.iter().filter(|kept| kept.pool == pool).count();
            if of_pool >= REPORTS_KEPT
                && let Some(oldest) = self.reports.iter().position(|kept| kept.pool == pool)
            {
                self.reports.remove(oldest);
            }
            let (run, holder, figures) = (report.run.clone(), report.holder.clone(), report.figures.clone());
            let reported_at = self.timestamp();
            self.reports.push(ReportedRun { run, pool, holder, figures, reported_at });
        }
        if !report.inputs.is_empty() {
            for template in templates {
                self.record_inputs(template, &report.inputs);
            }
        }
        Ok(())
    }

    pub(super) fn reported_runs(&self, pool: Option<&PoolName>) -> Vec<ReportedRun> {
        let of_pool = |kept: &&ReportedRun| pool.is_none_or(|pool| &kept.pool == pool);
        self.reports.iter().rev().filter(of_pool).cloned().collect()
    }
}
