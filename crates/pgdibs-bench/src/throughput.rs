//! Cycles per second: acquire, connect, write, disconnect, release, beside create, connect, write, disconnect, drop.
//!
//! pgdibs and the plain variants take turns on one server. A ratio compares turns of the same round.

use std::time::{Duration, Instant};

use crate::plain::{Plain, PlainSetting, PlainSource, Session};
use pgdibs_core::pool::Strategy;
use tokio::task::JoinSet;

use crate::api::{Api, Size};
use crate::args::Options;
use crate::error::{BenchError, context};
use crate::latency::{expect_clean, milliseconds};
use crate::processor::{Meter, Used};
use crate::results::Samples;

/// The plain variants. The goal is about the first two; the third shows the effect of the seal.
const PLAIN_VARIANTS: [Variant; 3] = [
    Variant { source: PlainSource::AsMade, strategy: Strategy::FileCopy },
    Variant { source: PlainSource::AsMade, strategy: Strategy::WalLog },
    Variant { source: PlainSource::Sealed, strategy: Strategy::FileCopy },
];

/// A plain variant: the copied template and the strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    source: PlainSource,
    strategy: Strategy,
}

impl Variant {
    /// The name in the report.
    pub(crate) fn name(self) -> String {
        match self.source {
            PlainSource::AsMade => self.strategy.as_str().to_owned(),
            PlainSource::Sealed => format!("{} of the sealed template", self.strategy.as_str()),
        }
    }

    fn counts_for_goal(self) -> bool {
        self.source == PlainSource::AsMade
    }
}

/// The result in cycles per second, a sample per round.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) pgdibs: Samples,
    pub(crate) plain: Vec<(Variant, Samples)>,
    /// pgdibs relative to the better plain variant of the same round.
    pub(crate) ratios: Samples,
    /// pgdibs relative to plain copies of the sealed template.
    pub(crate) ratios_sealed: Samples,
    /// Milliseconds of processor time of server and daemon per cycle; empty where there is no `/proc`.
    pub(crate) processor: Processor,
    /// Milliseconds of each acquire, and of the first connection after it.
    pub(crate) waits: Samples,
    pub(crate) connects: Samples,
}

#[derive(Debug, Default)]
pub(crate) struct Processor {
    pub(crate) pgdibs: Samples,
    /// The plain variant that takes less in the same round.
    pub(crate) plain: Samples,
}

/// One side of one round.
struct Turn {
    cycles: u32,
    lasted: Duration,
    processor: Option<Used>,
}

impl Turn {
    /// In cycles per second.
    fn rate(&self) -> f64 {
        f64::from(self.cycles) / self.lasted.as_secs_f64()
    }

    /// In milliseconds of processor time per cycle.
    fn cost(&self) -> Option<f64> {
        let per_cycle = |used: Used| (used.daemon + used.server).as_secs_f64() * 1000.0 / f64::from(self.cycles.max(1));
        self.processor.map(per_cycle)
    }
}

/// Runs the rounds with so many callers, and as many threads of plain Postgres.
pub(crate) async fn compare(
    options: &Options,
    callers: u32,
    setting: &PlainSetting,
    api: &Api,
    meter: &Meter,
    progress: &impl Fn(String),
) -> Result<Compared, BenchError> {
    let size = Size { warm: callers, max: callers * 2, spares: callers };
    api.resize(size).await?;
    let mut threads = Vec::new();
    for number in 0..callers {
        let thread = Plain::new(setting, number).await;
        threads.push(context("a plain thread's connection", thread)?);
    }
    let mut compared = Compared {
        plain: PLAIN_VARIANTS.into_iter().map(|variant| (variant, Samples::default())).collect(),
        ..Compared::default()
    };
    for round in 1..=options.rounds {
        let (mut best, mut least, mut sealed) = (0.0_f64, None::<f64>, 0.0_f64);
        for (variant, rates) in &mut compared.plain {
            progress(format!("round {round} of {}: {callers} x plain Postgres, {}", options.rounds, variant.name()));
            // Otherwise the remaining work of the other side would count here.
            api.wait_until_idle(size).await?;
            let (turn, returned) = run_plain(threads, *variant, options.side(), meter).await?;
            threads = returned;
            rates.add(turn.rate());
            if variant.counts_for_goal() {
                best = best.max(turn.rate());
                least = [least, turn.cost()].into_iter().flatten().reduce(f64::min);
            } else {
                sealed = turn.rate();
            }
        }
        progress(format!("round {round} of {}: {callers} x pgdibs", options.rounds));
        api.wait_until_idle(size).await?;
        let turn = run_pgdibs(api, callers, options.side(), size, meter, &mut compared).await?;
        compared.pgdibs.add(turn.rate());
        compared.ratios.add(turn.rate() / best);
        compared.ratios_sealed.add(turn.rate() / sealed);
        if let (Some(pgdibs), Some(plain)) = (turn.cost(), least) {
            compared.processor.pgdibs.add(pgdibs);
            compared.processor.plain.add(plain);
        }
    }
    Ok(compared)
}

/// Runs all threads for `duration`; returns them for the next round.
async fn run_plain(
    threads: Vec<Plain>,
    variant: Variant,
    duration: Duration,
    meter: &Meter,
) -> Result<(Turn, Vec<Plain>), BenchError> {
    let (started, before) = (Instant::now(), meter.read());
    let mut tasks = JoinSet::new();
    for mut thread in threads {
        tasks.spawn(async move {
            let mut cycles = 0_u32;
            while started.elapsed() < duration {
                context("a plain cycle", thread.cycle(variant.source, variant.strategy).await)?;
                cycles += 1;
            }
            Ok::<_, BenchError>((cycles, thread))
        });
    }
    let (mut cycles, mut returned) = (0, Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (count, thread) = ended.map_err(|error| BenchError::Broken(error.to_string()))??;
        cycles += count;
        returned.push(thread);
    }
    Ok((Turn { cycles, lasted: started.elapsed(), processor: meter.since(before) }, returned))
}

/// Runs all callers for `duration`. The pool is full and idle before and after. The time includes refilling it, so that ready databases
/// are no advantage.
async fn run_pgdibs(
    api: &Api,
    callers: u32,
    duration: Duration,
    size: Size,
    meter: &Meter,
    compared: &mut Compared,
) -> Result<Turn, BenchError> {
    let (started, before) = (Instant::now(), meter.read());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let api = api.clone();
        tasks.spawn(async move {
            let (mut waits, mut connects) = (Samples::default(), Samples::default());
            while started.elapsed() < duration {
                let asked = Instant::now();
                let lease = api.acquire(None).await?;
                let granted = Instant::now();
                waits.add(milliseconds(asked));
                let mut session = context("a lease's login", Session::connect(&lease.url).await)?;
                connects.add(milliseconds(granted));
                let is_clean = context("a write", session.write().await)?;
                expect_clean(&lease, &lease.database, is_clean)?;
                context("a disconnect", session.close().await)?;
                api.release(&lease).await?;
            }
            Ok::<_, BenchError>((waits, connects))
        });
    }
    let mut cycles = 0;
    while let Some(ended) = tasks.join_next().await {
        let (waits, connects) = ended.map_err(|error| BenchError::Broken(error.to_string()))??;
        cycles += u32::try_from(waits.all().len()).unwrap_or(u32::MAX);
        compared.waits.extend(&waits);
        compared.connects.extend(&connects);
    }
    api.wait_until_idle(size).await?;
    Ok(Turn { cycles, lasted: started.elapsed(), processor: meter.since(before) })
}
