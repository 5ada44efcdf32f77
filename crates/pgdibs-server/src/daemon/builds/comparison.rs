//! Compares the inputs of a pool's source with those of its last build.

use pgdibs_core::name::{Fingerprint, PoolName, RoleName};
use pgdibs_sources::{FingerprintContext, SourceKind};

use super::{Builds, RETRY, Trigger};
use crate::service::{Current, Sources};

impl Sources for Builds {
    fn current(&self, pool: &PoolName) -> Current {
        self.compare(pool, Trigger::Acquire)
    }
}

impl Builds {
    pub(super) fn compare(&self, pool: &PoolName, trigger: Trigger) -> Current {
        let Some(sourced) = self.pools.get(pool) else { return Current::NoSource };
        let mut sourced = sourced.lock();
        let sourced = &mut *sourced;
        let source = sourced.fingerprints.source();
        let digest = match &source.kind {
            SourceKind::Database(name) => match sourced.database.digest(source.refresh) {
                Ok(digest) => digest,
                Err(Some(why)) => {
                    sourced.unreadable = Some(why.clone());
                    return Current::Unreadable(why);
                }
                Err(None) => return Current::Unread(format!("the daemon has not read database \"{name}\" yet")),
            },
            _ => String::new(),
        };
        let settings = &sourced.settings.settings;
        let owner = settings.owner.clone().unwrap_or_else(|| RoleName::of_pool(pool));
        let extensions: Vec<String> = settings.extensions.iter().flatten().map(ToString::to_string).collect();
        let locale = [&settings.locale, &settings.encoding, &settings.icu_locale].map(Option::as_deref);
        let roles: Vec<String> = settings.roles.iter().flatten().map(ToString::to_string).collect();
        let context = FingerprintContext {
            server_major: self.backend.facts().major,
            database_digest: &digest,
            extensions: &extensions,
            locale: locale.map(Option::unwrap_or_default),
            roles: &roles,
            owner: owner.as_str(),
        };
        // An unchanged file costs one system call; changed ones are read here, which for migrations takes a few milliseconds.
        let fingerprint = match sourced.fingerprints.current(&context) {
            Ok(text) => text,
            Err(error) => {
                let why = error.to_string();
                sourced.unreadable = Some(why.clone());
                return Current::Unreadable(why);
            }
        };
        sourced.unreadable = None;
        let Ok(fingerprint) = Fingerprint::parse(&fingerprint) else {
            return Current::Unreadable("the fingerprint of the inputs is malformed".to_owned());
        };
        if sourced.inputs.as_ref().is_none_or(|(of, _)| *of != fingerprint) {
            sourced.inputs = Some((fingerprint.clone(), sourced.fingerprints.inputs(&context)));
        }
        if let Some((failed, why, at)) = &sourced.failed
            && *failed == fingerprint
        {
            if trigger == Trigger::Timer || at.elapsed() < RETRY {
                return Current::Failed(fingerprint, why.clone());
            }
            sourced.failed = None;
        }
        Current::Fingerprint(fingerprint)
    }
}
