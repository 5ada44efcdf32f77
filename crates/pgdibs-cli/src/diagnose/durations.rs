//! The duration of each test: from a run, from `.test_durations` of pytest-split, or from a JUnit file.

use std::collections::HashMap;

use super::schedule::Test;

/// Where the durations come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// One run of all tests.
    Run,
    /// One run that its deadline ended.
    PartOfRun,
    /// A file, by its path.
    File(String),
}

/// The tests of the command, in the order of the collection.
#[derive(Debug, Clone)]
pub(crate) struct Durations {
    pub(crate) origin: Origin,
    pub(crate) ids: Vec<String>,
    pub(crate) tests: Vec<Test>,
    /// The names of the files, by number.
    pub(crate) files: Vec<String>,
    /// Seconds of the fixtures of each file.
    pub(crate) file_fixtures: Vec<f64>,
    /// Which tests have a duration of their own; the others got the mean of their file, or of all.
    is_known: Vec<bool>,
    /// How many these are.
    pub(crate) known: usize,
}

impl Durations {
    /// Puts together what was collected and what is known about it.
    pub(crate) fn new(
        origin: Origin,
        ids: &[String],
        seconds: &HashMap<String, f64>,
        fixtures: &HashMap<String, f64>,
    ) -> Self {
        let (mut files, mut scopes) = (Numbers::default(), Numbers::default());
        let mut tests = Vec::with_capacity(ids.len());
        let mut of_files: HashMap<usize, (f64, usize)> = HashMap::new();
        for id in ids {
            let (file, scope) = (files.number(file_of(id)), scopes.number(scope_of(id)));
            if let Some(known) = seconds.get(id) {
                let sum = of_files.entry(file).or_default();
                *sum = (sum.0 + known, sum.1 + 1);
            }
            tests.push(Test { seconds: seconds.get(id).copied().unwrap_or(f64::NAN), file, scope });
        }
        let (sum, known) = of_files.values().fold((0.0, 0), |(sum, count), of| (sum + of.0, count + of.1));
        let mean = if known == 0 { 0.0 } else { sum / known as f64 };
        for test in tests.iter_mut().filter(|test| test.seconds.is_nan()) {
            test.seconds = of_files.get(&test.file).map_or(mean, |(sum, count)| sum / *count as f64);
        }
        let file_fixtures = files.names.iter().map(|file| fixtures.get(file).copied().unwrap_or_default()).collect();
        let is_known = ids.iter().map(|id| seconds.contains_key(id)).collect();
        Self { origin, ids: ids.to_vec(), tests, files: files.names, file_fixtures, is_known, known }
    }

    /// Seconds of all tests in one process alone, without the fixtures of files.
    pub(crate) fn sum(&self) -> f64 {
        self.tests.iter().map(|test| test.seconds).sum()
    }

    /// The tests whose duration is known.
    fn known_tests(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.tests.len()).filter(|test| self.is_known.get(*test) == Some(&true))
    }

    /// The longest test.
    pub(crate) fn longest(&self) -> Option<(&str, f64)> {
        let seconds = |test: usize| self.tests[test].seconds;
        let longest = self.known_tests().max_by(|one, other| seconds(*one).total_cmp(&seconds(*other)))?;
        Some((self.ids.get(longest)?, seconds(longest)))
    }

    /// Tests of about so many seconds, whole files where that is possible, spread over the suite; all of them when there is not more. A
    /// test without a known duration may be one that hangs.
    pub(crate) fn sample(&self, seconds: f64) -> Vec<usize> {
        if self.sum() <= seconds * 1.2 {
            return self.known_tests().collect();
        }
        let mut of_files: Vec<Vec<usize>> = vec![Vec::new(); self.files.len()];
        for test in self.known_tests() {
            of_files[self.tests[test].file].push(test);
        }
        // The same files in each run, in an order that has nothing to do with their names.
        let mut order: Vec<usize> = (0..of_files.len()).collect();
        order.sort_by_key(|file| (*file as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17));
        let mut chosen = Vec::new();
        let mut left = seconds;
        // No file gets more than a third, so that the sample is not one file.
        let share = if of_files.len() > 1 { seconds / 3.0 } else { seconds };
        for file in order {
            let mut in_file = 0.0;
            for test in &of_files[file] {
                let took = self.tests[*test].seconds;
                if in_file + took > share.min(left) {
                    break;
                }
                chosen.push(*test);
                in_file += took;
            }
            left -= in_file;
        }
        if chosen.is_empty() {
            let shortest =
                self.known_tests().min_by(|one, other| self.tests[*one].seconds.total_cmp(&self.tests[*other].seconds));
            chosen.extend(shortest);
        }
        chosen.sort_unstable();
        chosen
    }

    /// The tests of each shard of pytest-split's `duration_based_chunks`: consecutive ones, cut where the sum passes an equal share.
    pub(crate) fn shards(&self, count: usize) -> Vec<Vec<Test>> {
        let share = self.sum() / count.max(1) as f64;
        let mut shards = vec![Vec::new(); count.max(1)];
        let (mut shard, mut sum) = (0, 0.0);
        for test in &self.tests {
            if sum >= share && shard + 1 < shards.len() {
                (shard, sum) = (shard + 1, 0.0);
            }
            sum += test.seconds;
            shards[shard].push(test.clone());
        }
        shards
    }
}

/// Numbers for names, in the order of their first use.
#[derive(Debug, Default)]
struct Numbers {
    known: HashMap<String, usize>,
    names: Vec<String>,
}

impl Numbers {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.known.get(name) {
            return *number;
        }
        self.known.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }
}

/// The file of a test.
pub(crate) fn file_of(id: &str) -> &str {
    id.split("::").next().unwrap_or(id)
}

/// What `--dist loadscope` keeps together.
fn scope_of(id: &str) -> &str {
    id.rsplit_once("::").map_or(id, |(scope, _)| scope)
}

/// The class name and the name of a test in a JUnit file of pytest.
pub(crate) fn junit_key(id: &str) -> String {
    // A parameter may contain `::` and `/`.
    let (path, parameters) = id.find('[').map_or((id, ""), |at| id.split_at(at));
    let mut names: Vec<String> = path.split("::").map(str::to_owned).collect();
    if let Some(file) = names.first_mut() {
        *file = file.replace('/', ".").trim_end_matches(".py").to_owned();
    }
    let last = names.pop().unwrap_or_default();
    format!("{}::{last}{parameters}", names.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(tests: &[(&str, f64)]) -> Durations {
        let ids: Vec<String> = tests.iter().map(|(id, _)| (*id).to_owned()).collect();
        let known = tests.iter().filter(|test| test.1 >= 0.0).map(|(id, seconds)| ((*id).to_owned(), *seconds));
        Durations::new(Origin::Run, &ids, &known.collect(), &HashMap::new())
    }

    #[test]
    fn unknown_test_gets_mean_of_its_file_or_of_all() {
        let durations = durations(&[
            ("a.py::x", 1.0),
            ("a.py::y", 3.0),
            ("a.py::z", -1.0),
            ("b.py::C::x", -1.0),
            ("b.py::C::y", -1.0),
        ]);
        let seconds: Vec<f64> = durations.tests.iter().map(|test| test.seconds).collect();
        assert_eq!((seconds, durations.known), (vec![1.0, 3.0, 2.0, 2.0, 2.0], 2));
        assert_eq!(durations.tests[3].scope, durations.tests[4].scope);
        assert_eq!(durations.longest(), Some(("a.py::y", 3.0)));
    }

    #[test]
    fn shards_are_consecutive_and_about_equal() {
        let tests: Vec<String> = (0..10).map(|number| format!("a.py::t{number}")).collect();
        let tests: Vec<(&str, f64)> = tests.iter().map(|id| (id.as_str(), 1.0)).collect();
        let shards = durations(&tests).shards(3);
        assert_eq!(shards.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
    }

    #[test]
    fn sample_is_all_of_a_short_suite_and_part_of_a_long_one() {
        let ids: Vec<String> = (0..100).map(|number| format!("f{}.py::t{number}", number / 10)).collect();
        let tests: Vec<(&str, f64)> = ids.iter().map(|id| (id.as_str(), 1.0)).collect();
        let durations = durations(&tests);
        assert_eq!(durations.sample(100.0).len(), 100);
        let sample = durations.sample(20.0);
        let files: std::collections::HashSet<usize> = sample.iter().map(|test| durations.tests[*test].file).collect();
        assert!((15..=20).contains(&sample.len()) && files.len() >= 3, "{sample:?}");
    }

    #[test]
    fn junit_key_is_the_one_of_pytest() {
        assert_eq!(junit_key("tests/api/test_a.py::TestX::test_y[a::b/c]"), "tests.api.test_a.TestX::test_y[a::b/c]");
        assert_eq!(junit_key("test_a.py::test_y"), "test_a::test_y");
    }
}
