//! What every worker must do, whatever it is for.
