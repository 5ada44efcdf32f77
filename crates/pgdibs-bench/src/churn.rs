//! Cycles: acquire, connect, write, disconnect, release, beside create, connect, write, disconnect, drop.
//!
//! pgdibs and the plain side take turns on one server. A ratio compares turns of the same round.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::api::{Api, Size};
use crate::args::Effort;
use crate::error::{BenchError, context};
use crate::latency::milliseconds;
use crate::plain::{Drops, Plain, PlainServer, Variant};
use crate::processor::{Meter, Used};
use crate::results::Samples;
use crate::scale::joined;
use crate::session::{Session, dirty};

/// One side: a sample per round in cycles per second and in milliseconds of processor time per cycle, and one per cycle of how long the
/// caller waited for its database.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) rates: Samples,
    pub(crate) costs: Samples,
    pub(crate) waits: Samples,
}

/// The comparison.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) pgdibs: Side,
    /// Milliseconds of the first connection after each acquire.
    pub(crate) connects: Samples,
    /// The fastest plain variant.
    pub(crate) plain: Side,
    pub(crate) variant: Variant,
    /// pgdibs relative to the plain side in the same round.
    pub(crate) ratios: Samples,
    /// pgdibs relative to the fastest variant that drops at once, as test suites do; empty if that is the fastest of all.
    pub(crate) ratios_at_once: Samples,
}

/// One side of one round.
#[derive(Debug, Default)]
struct Turn {
    lasted: Duration,
    processor: Option<Used>,
    waits: Samples,
    connects: Samples,
}

impl Turn {
    /// In cycles per second.
    fn rate(&self) -> f64 {
        self.waits.len() as f64 / self.lasted.as_secs_f64()
    }
}

impl Side {
    fn add(&mut self, turn: &Turn) {
        self.rates.add(turn.rate());
        self.waits.extend(&turn.waits);
        if let Some(used) = turn.processor {
            let milliseconds = (used.daemon + used.server).as_secs_f64() * 1000.0;
            self.costs.add(milliseconds / turn.waits.len().max(1) as f64);
        }
    }
}

/// Runs the rounds with so many callers on each side.
pub(crate) async fn compare(
    effort: Effort,
    callers: u32,
    (server, major): (&PlainServer, u32),
    api: &Api,
    meter: &Meter,
) -> Result<Compared, BenchError> {
    let size = Size { warm: callers, max: callers * 2, spares: callers };
    api.resize(size).await?;
    let mut plain = Vec::new();
    for number in 0..callers {
        plain.push(context("a plain caller's connection", Plain::new(server, number).await)?);
    }
    // Otherwise the remaining work of the other side would count here.
    api.wait_until_idle(size).await?;
    let mut tried = Vec::new();
    for variant in Variant::all(major) {
        tried.push((run_plain(&mut plain, variant, effort.turn / 2, meter).await?.rate(), variant));
    }
    tried.sort_by(|one, another| another.0.total_cmp(&one.0));
    let (Some((_, variant)), Some((_, at_once))) =
        (tried.first().copied(), tried.iter().copied().find(|(_, variant)| variant.drops == Drops::AtOnce))
    else {
        return Err(BenchError::Unusable("no way to copy a database is known".to_owned()));
    };
    let mut compared = Compared {
        pgdibs: Side::default(),
        connects: Samples::default(),
        plain: Side::default(),
        variant,
        ratios: Samples::default(),
        ratios_at_once: Samples::default(),
    };
    for _ in 0..effort.rounds {
        let turn_plain = run_plain(&mut plain, variant, effort.turn, meter).await?;
        let turn = run_pgdibs(api, callers, effort.turn, size, meter).await?;
        if at_once != variant {
            let turn_at_once = run_plain(&mut plain, at_once, effort.turn, meter).await?;
            compared.ratios_at_once.add(turn.rate() / turn_at_once.rate());
        }
        compared.ratios.add(turn.rate() / turn_plain.rate());
        compared.connects.extend(&turn.connects);
        compared.pgdibs.add(&turn);
        compared.plain.add(&turn_plain);
    }
    Ok(compared)
}

/// Runs all plain callers for `duration`, and waits for their drops.
async fn run_plain(
    callers: &mut Vec<Plain>,
    variant: Variant,
    duration: Duration,
    meter: &Meter,
) -> Result<Turn, BenchError> {
    let (started, before) = (Instant::now(), meter.read());
    let mut tasks = JoinSet::new();
    for mut caller in callers.drain(..) {
        tasks.spawn(async move {
            let mut waits = Samples::default();
            while started.elapsed() < duration {
                let (waited, is_clean) = context("a plain cycle", caller.cycle(variant).await)?;
                if !is_clean {
                    return Err(BenchError::Unusable("a copy of the plain template is not as its template".to_owned()));
                }
                waits.add(waited);
            }
            context("a drop", caller.finish().await)?;
            Ok::<_, BenchError>((waits, caller))
        });
    }
    let mut turn = Turn::default();
    while let Some(ended) = tasks.join_next().await {
        let (waits, caller) = joined(ended)??;
        turn.waits.extend(&waits);
        callers.push(caller);
    }
    Ok(Turn { lasted: started.elapsed(), processor: meter.since(before), ..turn })
}

/// Runs all callers for `duration`. The pool is full and idle before and after. The time includes refilling it, so that ready databases
/// are no advantage.
async fn run_pgdibs(
    api: &Api,
    callers: u32,
    duration: Duration,
    size: Size,
    meter: &Meter,
) -> Result<Turn, BenchError> {
    let (started, before) = (Instant::now(), meter.read());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let api = api.clone();
        tasks.spawn(async move {
            let (mut waits, mut connects) = (Samples::default(), Samples::default());
            while started.elapsed() < duration {
                let requested = Instant::now();
                let lease = api.acquire(None).await?;
                let granted = Instant::now();
                waits.add(milliseconds(requested));
                let mut session = context("a lease's login", Session::connect(&lease.url).await)?;
                connects.add(milliseconds(granted));
                if !context("a write", session.write().await)? {
                    return Err(dirty(&lease.database));
                }
                context("a disconnect", session.close().await)?;
                api.release(&lease).await?;
            }
            Ok::<_, BenchError>((waits, connects))
        });
    }
    let mut turn = Turn::default();
    while let Some(ended) = tasks.join_next().await {
        let (waits, connects) = joined(ended)??;
        turn.waits.extend(&waits);
        turn.connects.extend(&connects);
    }
    api.wait_until_idle(size).await?;
    Ok(Turn { lasted: started.elapsed(), processor: meter.since(before), ..turn })
}
