//! Our moment as a parameter, without a detour over calendars.
use bytes::{BufMut as _, BytesMut};
use std::error::Error;
use telltale_schemas::Timestamp;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

/// 2000-01-01, from which PostgreSQL counts microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A `timestamptz`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp(pub(crate) Timestamp);

/// Microseconds as PostgreSQL counts them.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_micros() - EPOCH_MICROS
}

impl ToSql for Stamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(micros(self.0));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}
