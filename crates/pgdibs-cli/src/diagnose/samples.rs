//! Repeated measurements of one thing: median and spread.

/// The seconds of several runs, in the order in which they were taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, seconds: f64) {
        self.0.push(seconds.max(0.0));
    }

    pub(crate) fn of(seconds: &[f64]) -> Self {
        Self(seconds.to_vec())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn all(&self) -> &[f64] {
        &self.0
    }

    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
            _ => sorted.get(middle).copied(),
        }
    }

    pub(crate) fn smallest(&self) -> Option<f64> {
        self.0.iter().copied().min_by(f64::total_cmp)
    }

    pub(crate) fn largest(&self) -> Option<f64> {
        self.0.iter().copied().max_by(f64::total_cmp)
    }

    /// Half the distance between the smallest and the largest, as a part of the median.
    pub(crate) fn spread(&self) -> Option<f64> {
        let median = self.median().filter(|median| *median > 0.0)?;
        Some((self.largest()? - self.smallest()?) / 2.0 / median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread_of_odd_and_even_counts() {
        assert_eq!(Samples::of(&[3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(Samples::of(&[4.0, 1.0]).median(), Some(2.5));
        assert_eq!(Samples::default().median(), None);
        assert_eq!(Samples::of(&[1.0, 2.0, 3.0]).spread(), Some(0.5));
    }
}
