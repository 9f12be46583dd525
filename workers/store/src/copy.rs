//! PostgreSQL's binary COPY, written by hand into one buffer: the driver's own writer dispatches on each value and
//! sends 4 KiB at a time.
use crate::stamp;
use bytes::{BufMut as _, Bytes, BytesMut};
use telltale_schemas::Timestamp;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TEXT_OID: i32 = 25;

/// Rows on their way. Values are appended in the order of the columns; a row begins with [`Copy::row`].
#[derive(Debug)]
pub(crate) struct Copy {
    buffer: BytesMut,
    rows: u64,
}

impl Copy {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(bytes + SIGNATURE.len() + 2);
        buffer.put_slice(SIGNATURE);
        Self { buffer, rows: 0 }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn row(&mut self, columns: i16) {
        self.buffer.put_i16(columns);
        self.rows += 1;
    }

    pub(crate) fn null(&mut self) {
        self.buffer.put_i32(-1);
    }

    fn some<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => put(self, value),
            None => self.null(),
        }
    }

    pub(crate) fn bigint(&mut self, value: Option<i64>) {
        self.some(value, |to, value| {
            to.buffer.put_i32(8);
            to.buffer.put_i64(value);
        });
    }

    pub(crate) fn integer(&mut self, value: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
    }

    pub(crate) fn smallint(&mut self, value: Option<i16>) {
        self.some(value, |to, value| {
            to.buffer.put_i32(2);
            to.buffer.put_i16(value);
        });
    }

    pub(crate) fn double(&mut self, value: Option<f64>) {
        self.some(value, |to, value| {
            to.buffer.put_i32(8);
            to.buffer.put_f64(value);
        });
    }

    pub(crate) fn boolean(&mut self, value: Option<bool>) {
        self.some(value, |to, value| {
            to.buffer.put_i32(1);
            to.buffer.put_u8(value.into());
        });
    }

    pub(crate) fn time(&mut self, value: Option<Timestamp>) {
        self.bigint(value.map(stamp::micros));
    }

    pub(crate) fn text(&mut self, value: Option<&str>) {
        self.bytes(value.map(str::as_bytes));
    }

    pub(crate) fn bytes(&mut self, value: Option<&[u8]>) {
        self.some(value, |to, value| {
            to.length(value.len());
            to.buffer.put_slice(value);
        });
    }

    /// NULL where there is none: the view says `{}`.
    pub(crate) fn texts(&mut self, values: &[String]) {
        if values.is_empty() {
            return self.null();
        }
        self.length(20 + values.iter().map(|value| 4 + value.len()).sum::<usize>());
        for number in [1, 0, TEXT_OID] {
            self.buffer.put_i32(number);
        }
        self.length(values.len());
        self.buffer.put_i32(1);
        for value in values {
            self.text(Some(value));
        }
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }

    fn length(&mut self, bytes: usize) {
        self.buffer
            .put_i32(i32::try_from(bytes).expect("a message is far below 2 GiB"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_as_the_manual_says() {
        let mut copy = Copy::with_capacity(64);
        copy.row(4);
        copy.smallint(Some(-2));
        copy.time(Timestamp::parse("2000-01-01T00:00:00.000001Z").ok());
        copy.text(None);
        copy.texts(&["ab".into()]);
        assert_eq!(copy.rows(), 1);
        let bytes = copy.finish();
        let mut expected = SIGNATURE.to_vec();
        expected.extend([0, 4]);
        expected.extend([0, 0, 0, 2, 0xff, 0xfe]);
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0xff; 4]);
        expected.extend([0, 0, 0, 26, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25]);
        expected.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, b'a', b'b']);
        expected.extend([0xff, 0xff]);
        assert_eq!(bytes, expected);
    }
}
