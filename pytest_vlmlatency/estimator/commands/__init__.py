"""`vlmlatency estimator ...`, a module for each of its commands; none imports anything heavy."""
