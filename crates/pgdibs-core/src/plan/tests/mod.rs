//! Examples of plans.
