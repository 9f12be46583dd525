//! What must hold whatever fails: an outside ledger of what was sent and answered, the oracles that compare it with
//! what became of it, and a proxy that spoils the wire between two processes.
