//! Turns TOML files into types that cannot contradict each other; unknown keys are errors.
