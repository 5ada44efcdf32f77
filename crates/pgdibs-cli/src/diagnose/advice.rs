//! What follows from the measurements, in sentences: the layout, the first lever, what does not pay.

use super::durations::Origin;
use super::events::ImportLine;
use super::measured::Measured;
use super::model::Layouts;

/// Something to change, and the seconds of the run that it takes at most.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lever {
    pub(crate) text: String,
    pub(crate) seconds: f64,
}

/// Levers below this part of the run are not worth a line.
const WORTH: f64 = 0.05;
/// Below this part of the run there is nothing to gain at the database.
const SMALL_DATABASE: f64 = 0.10;

/// The sentences, the most important one first.
pub(crate) fn sentences(measured: &Measured, layouts: Option<&Layouts>) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(layouts.map(layout_sentence));
    let mut levers = levers(measured, layouts).into_iter();
    match levers.next() {
        Some(first) => {
            sentences.push(format!("First lever: {}.", first.text));
            sentences.extend(levers.take(2).map(|lever| format!("Then: {}.", lever.text)));
        }
        None if layouts.is_some() => {
            sentences.push(format!(
                "No lever besides the layout: nothing that start-up, coverage or databases take is {:.0} % of the run.",
                WORTH * 100.0
            ));
        }
        None => {}
    }
    sentences.extend(layouts.and_then(|layouts| xdist_sentence(measured, layouts)));
    sentences.extend(layouts.and_then(|layouts| database_sentence(measured, layouts)));
    sentences.extend(layouts.and_then(machines_sentence));
    sentences
}

fn layout_sentence(layouts: &Layouts) -> String {
    let (present, recommended) = (layouts.present(), layouts.recommended());
    let options = recommended.layout.options();
    if layouts.present == layouts.recommended {
        return format!(
            "Recommended: keep {options}, {}: no other layout on this machine is quicker by more than 3 %.",
            seconds(present.wall)
        );
    }
    format!(
        "Recommended: {options}, {} instead of {} now ({}).",
        seconds(recommended.wall),
        seconds(present.wall),
        present.layout.options()
    )
}

/// What takes time besides the tests, the largest first.
pub(crate) fn levers(measured: &Measured, layouts: Option<&Layouts>) -> Vec<Lever> {
    let mut levers: Vec<Lever> = Vec::new();
    let start_up = measured.start_up.median().unwrap_or_default();
    let recommended = layouts.map(Layouts::recommended);
    let processes = recommended.map_or(1, |one| one.layout.processes());
    let workers = recommended.map_or(0, |one| one.layout.workers);
    // The controller's start-up comes before that of the workers, which are slower because they start at once.
    let busy = recommended.filter(|_| start_up > 0.0).map_or(1.0, |one| (one.start_up / start_up).max(1.0));
    if let Some(line) = measured.lines.sorted().into_iter().next() {
        let times = if workers > 0 && is_test(&line) { (busy - 1.0).max(1.0) } else { busy };
        let among = if processes == 1 { String::new() } else { format!(", in each of {processes} processes") };
        let text = format!(
            "{}:{} imports {}: {} of start-up{among}",
            line.file,
            line.line,
            line.what,
            part_of(line.seconds, start_up)
        );
        levers.push(Lever { text, seconds: line.seconds * times });
    }
    levers.extend(coverage(measured, layouts, busy));
    levers.extend(database(measured, layouts));
    levers.extend(longest_test(measured, layouts));
    let run = recommended.map_or(start_up, |one| one.wall);
    levers.retain(|lever| lever.seconds >= run * WORTH);
    levers.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    levers
}

fn is_test(line: &ImportLine) -> bool {
    let name = line.file.rsplit(['/', '\\']).next().unwrap_or_default();
    name.starts_with("test_") || name.ends_with("_test.py")
}

fn coverage(measured: &Measured, layouts: Option<&Layouts>, busy: f64) -> Option<Lever> {
    let (with, without) = (measured.start_up.median()?, measured.start_up_without_coverage.median()?);
    let start_up = (with - without).max(0.0);
    let tests = match (measured.tests_with_coverage.median(), measured.tests_without_coverage.median()) {
        (Some(with), Some(without)) if with > 0.0 => (1.0 - without / with).max(0.0),
        _ => 0.0,
    };
    let of_tests = layouts.map_or(0.0, |layouts| layouts.recommended().tests) * tests;
    let text = format!(
        "coverage takes {} of each start-up and {:.0} % of the tests' time; measure it in one job of several, or on Python 3.12 or newer with COVERAGE_CORE=sysmon",
        seconds(start_up),
        tests * 100.0
    );
    Some(Lever { text, seconds: start_up * busy + of_tests })
}

fn database(measured: &Measured, layouts: Option<&Layouts>) -> Option<Lever> {
    let (fixture, prediction) = (measured.database.as_ref()?.fixtures.first()?, layouts?.recommended());
    if prediction.database < prediction.wall * SMALL_DATABASE {
        return None;
    }
    let often = match fixture.scope.as_str() {
        "session" => "in each process".to_owned(),
        scope => format!("in all tests together, per {scope}"),
    };
    let text = format!(
        "the fixture {} prepares a database: {} {often}; what it makes in each process can stand in the template that pgdibs clones",
        fixture.name,
        seconds(fixture.seconds)
    );
    Some(Lever { text, seconds: prediction.database })
}

fn longest_test(measured: &Measured, layouts: Option<&Layouts>) -> Option<Lever> {
    let (id, longest) = measured.durations.as_ref()?.longest()?;
    let prediction = layouts?.recommended();
    let text = format!(
        "{id} takes {}, while other workers have nothing to do; split it, or let it start first",
        seconds(longest)
    );
    // More workers do not shorten a test.
    (prediction.layout.workers > 1 && longest > prediction.idle).then_some(Lever { text, seconds: prediction.idle })
}

fn xdist_sentence(measured: &Measured, layouts: &Layouts) -> Option<String> {
    let (without, with) = (layouts.quickest(false)?, layouts.quickest(true)?);
    let best = layouts.recommended();
    if best.layout.workers > 0 {
        return None;
    }
    let start_up = seconds(measured.start_up.median()?);
    Some(format!(
        "xdist does not pay: {} takes {}, one process {}; the controller pays a start-up of {start_up}, and then the workers pay it again.",
        with.layout.options(),
        seconds(with.wall),
        seconds(without.wall)
    ))
}

fn database_sentence(measured: &Measured, layouts: &Layouts) -> Option<String> {
    measured.database.as_ref()?;
    let prediction = layouts.recommended();
    let part = prediction.database / prediction.wall.max(1e-9);
    let percent = if part < 0.01 { format!("{:.1} %", part * 100.0) } else { format!("{:.0} %", part * 100.0) };
    let what = format!("The database is {percent} of the run ({})", seconds(prediction.database));
    Some(match part < SMALL_DATABASE {
        true => format!("{what}: nothing is to be gained there, with pgdibs neither."),
        false => format!("{what}: leases, and the fixtures that prepare it."),
    })
}

fn machines_sentence(layouts: &Layouts) -> Option<String> {
    let recommended = layouts.recommended();
    let more = layouts.all.iter().filter(|one| one.layout.shards > recommended.layout.shards);
    let quickest = more.min_by(|one, other| one.wall.total_cmp(&other.wall))?;
    if quickest.wall > recommended.wall * (1.0 - WORTH) {
        return None;
    }
    Some(format!(
        "On {} machines like this one: {}, with {} start-ups instead of {}.",
        quickest.layout.shards,
        seconds(quickest.wall),
        quickest.layout.processes(),
        recommended.layout.processes()
    ))
}

/// Where the durations come from, for people.
pub(crate) fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Run => "one run".to_owned(),
        Origin::PartOfRun => "one run, cut short".to_owned(),
        Origin::File(path) => path.clone(),
    }
}

/// `0.04 s`, `1.9 s`, `73 s`, `2 min 5 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        short if short < 0.95 => format!("{short:.2} s"),
        medium if medium < 59.5 => format!("{medium:.1} s"),
        long => crate::table::duration(long.round()),
    }
}

/// `18 of 19 s`, `0.40 of 1.7 s`.
fn part_of(part: f64, whole: f64) -> String {
    let brief = |value: f64| match value {
        long if (9.95..59.5).contains(&long) => format!("{long:.0} s"),
        other => seconds(other),
    };
    let (part, whole) = (brief(part), brief(whole));
    match (part.strip_suffix(" s"), part.contains("min") == whole.contains("min")) {
        (Some(number), true) => format!("{number} of {whole}"),
        _ => format!("{part} of {whole}"),
    }
}

#[cfg(test)]
mod tests {

    use super::super::measured::Database;
    use super::super::model::layouts;
    use super::super::samples::Samples;
    use super::*;

    /// A suite of 100 tests whose conftest imports slowly, in one process or with workers.
    fn suite(start_up: f64, import: f64, test: f64) -> Measured {
        let mut measured = Measured::of_equal_tests(start_up, 100, 10, test);
        let line = |what: &str, seconds| ImportLine {
            file: "conftest.py".to_owned(),
            line: 14,
            what: what.to_owned(),
            seconds,
        };
        measured.lines.add(&[line("app.main", import), line("json", 0.01)]);
        measured.database = Some(Database { lease: Samples::of(&[0.01]), ..Database::default() });
        for at_once in &mut measured.at_once {
            at_once.databases = Samples::of(&[0.01]);
        }
        measured
    }

    fn said(measured: &Measured) -> String {
        sentences(measured, layouts(measured).as_ref()).join("\n")
    }

    #[test]
    fn slow_import_is_first_lever_and_xdist_does_not_pay() {
        let said = said(&suite(19.0, 18.0, 0.1));
        assert!(said.contains("First lever: conftest.py:14 imports app.main: 18 of 19 s of start-up."), "{said}");
        assert!(said.contains("xdist does not pay: "), "{said}");
        assert!(said.contains("Recommended: keep no -n, 29.0 s"), "{said}");
        assert!(
            said.contains(
                "The database is 0.0 % of the run (0.01 s): nothing is to be gained there, with pgdibs neither."
            ),
            "{said}"
        );
    }

    #[test]
    fn workers_are_recommended_where_tests_take_the_time() {
        let mut measured = suite(1.0, 0.5, 1.0);
        let said_without = said(&measured);
        assert!(
            said_without.contains("Recommended: -n 2 --dist load, 52.0 s instead of 1 min 41 s now (no -n)."),
            "{said_without}"
        );
        assert!(!said_without.contains("xdist does not pay"), "{said_without}");
        assert!(said_without.contains("No lever besides the layout"), "{said_without}");
        // Fixtures of the tests that take most of their time.
        let fixture = super::super::events::Fixture {
            name: "create_all".to_owned(),
            scope: "function".to_owned(),
            seconds: 60.0,
            database: true,
        };
        measured.database = Some(Database { tests: 60.0, fixtures: vec![fixture], ..Database::default() });
        let said = said(&measured);
        assert!(
            said.contains("First lever: the fixture create_all prepares a database: 1 min 0 s in all tests together"),
            "{said}"
        );
        assert!(said.contains("The database is 58 % of the run"), "{said}");
    }

    #[test]
    fn parts_have_the_unit_once() {
        assert_eq!(part_of(18.2, 19.4), "18 of 19 s");
        assert_eq!(part_of(0.4, 1.7), "0.40 of 1.7 s");
        assert_eq!(part_of(30.0, 90.0), "30 s of 1 min 30 s");
    }
}
