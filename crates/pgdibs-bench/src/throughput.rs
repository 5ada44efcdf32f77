//! Cycles per second: acquire, connect, write, disconnect, release against create, connect, write, disconnect, drop.
//!
//! pgdibs and the plain ways take turns on one server. A round's ratio is that of neighbours in time.

use std::time::{Duration, Instant};

use crate::plain::{Plain, PlainSetting, PlainSource, Session};
use pgdibs_core::pool::Strategy;
use secrecy::SecretString;
use tokio::task::JoinSet;

use crate::api::{Api, Size};
use crate::args::Options;
use crate::error::{BenchError, while_doing};
use crate::processor::Meter;
use crate::report::Samples;
use crate::template::Template;

/// The plain ways: what is copied, and how. The goal is about the first two; what the seal is worth to pgdibs, the third shows.
const PLAIN_WAYS: [Way; 3] = [
    Way { source: PlainSource::AsMade, strategy: Strategy::FileCopy },
    Way { source: PlainSource::AsMade, strategy: Strategy::WalLog },
    Way { source: PlainSource::Sealed, strategy: Strategy::FileCopy },
];

/// One plain way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    source: PlainSource,
    strategy: Strategy,
}

impl Way {
    /// In words, for a row.
    pub(crate) fn shown(self) -> String {
        match self.source {
            PlainSource::AsMade => self.strategy.as_str().to_owned(),
            PlainSource::Sealed => format!("{} of the sealed template", self.strategy.as_str()),
        }
    }

    fn is_rival(self) -> bool {
        self.source == PlainSource::AsMade
    }
}

/// What came out, in cycles per second, a sample per round.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) pgdibs: Samples,
    pub(crate) plain: Vec<(Way, Samples)>,
    /// pgdibs against the better of the plain ones of the same round.
    pub(crate) ratios: Samples,
    /// pgdibs against a plain copy of the template that pgdibs has sealed.
    pub(crate) ratios_sealed: Samples,
    /// Milliseconds of processor that server and daemon took per cycle; empty where the system does not say.
    pub(crate) processor: Processor,
}

/// The same for each side.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    pub(crate) pgdibs: Samples,
    /// The plain way that takes less in the same round.
    pub(crate) plain: Samples,
}

/// One side of one round.
struct Turn {
    cycles: u32,
    lasted: Duration,
    processor: Option<Duration>,
}

impl Turn {
    /// Cycles per second.
    fn rate(&self) -> f64 {
        f64::from(self.cycles) / self.lasted.as_secs_f64()
    }

    /// Milliseconds of processor per cycle.
    fn cost(&self) -> Option<f64> {
        self.processor.map(|used| used.as_secs_f64() * 1000.0 / f64::from(self.cycles.max(1)))
    }
}

/// Lets both sides take turns.
pub(crate) async fn compare(
    options: &Options,
    api: &Api,
    superuser: &SecretString,
    template: &Template,
    meter: &Meter,
    tell: &impl Fn(String),
) -> Result<Compared, BenchError> {
    let size = Size { warm: options.callers, max: options.callers * 2, spares: options.callers };
    api.resize(size).await?;
    let setting = while_doing(
        "a login and a template for the plain threads",
        PlainSetting::make(superuser, super::api::POOL).await,
    )?;
    let mut threads = Vec::new();
    for number in 0..options.callers {
        let thread = Plain::new(superuser, &setting, number, super::api::POOL, &template.database).await;
        threads.push(while_doing("a plain thread's connection", thread)?);
    }
    let mut compared = Compared {
        plain: PLAIN_WAYS.into_iter().map(|way| (way, Samples::default())).collect(),
        ..Compared::default()
    };
    for round in 1..=options.rounds {
        let (mut best, mut least, mut sealed) = (0.0_f64, None::<f64>, 0.0_f64);
        for (way, rates) in &mut compared.plain {
            tell(format!("round {round} of {}: plain Postgres, {}", options.rounds, way.shown()));
            // What the other side left to do would be done in our time.
            api.rest(size).await?;
            let (turn, back) = plain(threads, *way, options.side(), meter).await?;
            threads = back;
            rates.add(turn.rate());
            if way.is_rival() {
                best = best.max(turn.rate());
                least = [least, turn.cost()].into_iter().flatten().reduce(f64::min);
            } else {
                sealed = turn.rate();
            }
        }
        tell(format!("round {round} of {}: pgdibs", options.rounds));
        api.rest(size).await?;
        let turn = with_pgdibs(api, options.callers, options.side(), size, meter).await?;
        compared.pgdibs.add(turn.rate());
        compared.ratios.add(turn.rate() / best);
        compared.ratios_sealed.add(turn.rate() / sealed);
        if let (Some(ours), Some(plain)) = (turn.cost(), least) {
            compared.processor.pgdibs.add(ours);
            compared.processor.plain.add(plain);
        }
    }
    Ok(compared)
}

/// Runs all threads for a while; hands them back for the next round.
async fn plain(
    threads: Vec<Plain>,
    way: Way,
    lasting: Duration,
    meter: &Meter,
) -> Result<(Turn, Vec<Plain>), BenchError> {
    let (began, before) = (Instant::now(), meter.read());
    let mut tasks = JoinSet::new();
    for mut thread in threads {
        tasks.spawn(async move {
            let mut cycles = 0_u32;
            while began.elapsed() < lasting {
                while_doing("a plain cycle", thread.cycle(way.source, way.strategy).await)?;
                cycles += 1;
            }
            Ok::<_, BenchError>((cycles, thread))
        });
    }
    let (mut cycles, mut back) = (0, Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (count, thread) = ended.map_err(|error| BenchError::Broken(error.to_string()))??;
        cycles += count;
        back.push(thread);
    }
    Ok((Turn { cycles, lasted: began.elapsed(), processor: meter.since(before) }, back))
}

/// Runs all callers for a while. The pool is at rest and full before and after, and refilling it counts: the clock stops when
/// it is, so databases that stood ready are no head start.
async fn with_pgdibs(
    api: &Api,
    callers: u32,
    lasting: Duration,
    size: Size,
    meter: &Meter,
) -> Result<Turn, BenchError> {
    let (began, before) = (Instant::now(), meter.read());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let api = api.clone();
        tasks.spawn(async move {
            let mut cycles = 0_u32;
            while began.elapsed() < lasting {
                let lease = api.acquire(None).await?;
                let mut session = while_doing("a lease's login", Session::connect(&lease.url).await)?;
                while_doing("a write", session.write().await)?;
                while_doing("a goodbye", session.close().await)?;
                api.release(&lease).await?;
                cycles += 1;
            }
            Ok::<_, BenchError>(cycles)
        });
    }
    let mut cycles = 0;
    while let Some(ended) = tasks.join_next().await {
        cycles += ended.map_err(|error| BenchError::Broken(error.to_string()))??;
    }
    api.rest(size).await?;
    Ok(Turn { cycles, lasted: began.elapsed(), processor: meter.since(before) })
}
