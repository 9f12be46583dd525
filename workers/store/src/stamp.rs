//! Our moment as a parameter, without a detour over calendars.
use bytes::{BufMut as _, BytesMut};
use std::error::Error;
use telltale_schemas::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// 2000-01-01, from which PostgreSQL counts microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A `timestamptz`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp(pub(crate) Timestamp);

/// Microseconds as PostgreSQL counts them.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_micros() - EPOCH_MICROS
}

impl<'a> FromSql<'a> for Stamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        let at = micros.checked_add(EPOCH_MICROS).and_then(Timestamp::from_micros);
        Ok(Self(at.ok_or("a time beyond the year 9999")?))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Stamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(micros(self.0));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}
