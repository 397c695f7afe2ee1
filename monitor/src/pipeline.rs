//! All stages wired, to be read from top to bottom.
