//! Readings travel on `valid` in packs: one shape for one reading and for fifty.
use crate::compose::Packable;
use bytes::Bytes;
use serde_json::value::RawValue;
use telltale_nats::{Lane, header, publish::Outgoing, subject};

/// Most readings in a pack.
pub(crate) const READINGS_MAX: usize = 50;
/// Most bytes of a pack; a single reading may be larger, it travels alone.
pub(crate) const BYTES_MAX: usize = 512 * 1024;

/// Packs what is there, in order, each with the positions (in `readings`) of what it holds.
pub(crate) fn pack(readings: Vec<Packable>) -> Vec<(Outgoing, Vec<usize>)> {
    let mut packs = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for (position, reading) in readings.into_iter().enumerate() {
        let known = open.iter().position(|pack| pack.site == reading.site);
        let place = known.unwrap_or_else(|| {
            open.push(Open::new(reading.site.clone()));
            open.len() - 1
        });
        let pack = &mut open[place];
        if pack.is_full_for(&reading) {
            let full = std::mem::replace(pack, Open::new(reading.site.clone()));
            packs.push(full.close());
        }
        pack.add(position, &reading);
    }
    packs.extend(open.into_iter().map(Open::close));
    packs
}

struct Open {
    site: telltale_nats::Name,
    body: Vec<u8>,
    hops: String,
    positions: Vec<usize>,
}

impl Open {
    fn new(site: telltale_nats::Name) -> Self {
        Self {
            site,
            body: vec![b'['],
            hops: String::new(),
            positions: Vec::new(),
        }
    }

    fn is_full_for(&self, reading: &Packable) -> bool {
        !self.positions.is_empty()
            && (self.positions.len() >= READINGS_MAX || self.body.len() + reading.body.len() + 2 > BYTES_MAX)
    }

    fn add(&mut self, position: usize, reading: &Packable) {
        if !self.positions.is_empty() {
            self.body.push(b',');
            self.hops.push('|');
        }
        self.body.extend_from_slice(&reading.body);
        self.hops.push_str(&reading.hops);
        self.positions.push(position);
    }

    fn close(mut self) -> (Outgoing, Vec<usize>) {
        self.body.push(b']');
        let outgoing = Outgoing {
            subject: subject::pack(&self.site),
            headers: vec![
                (header::CONTENT_TYPE, header::CLOUDEVENT_BATCH.to_owned()),
                (header::HOPS, self.hops),
            ],
            payload: Bytes::from(self.body),
            stream: Lane::Valid.stream(),
        };
        (outgoing, self.positions)
    }
}

/// The readings of a pack, each with its hops. The bytes are shared with the pack, not copied.
pub(crate) fn unpack(payload: &Bytes, hops: &str) -> Result<Vec<(Bytes, String)>, serde_json::Error> {
    let items: Vec<&RawValue> = serde_json::from_slice(payload)?;
    let mut hops = hops.split('|');
    Ok(items
        .into_iter()
        .map(|item| {
            (
                payload.slice_ref(item.get().as_bytes()),
                hops.next().unwrap_or_default().to_owned(),
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_nats::Name;

    fn reading(site: &str, n: usize, size: usize) -> Packable {
        Packable {
            site: Name::new(site).unwrap(),
            body: format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(size)).into_bytes(),
            hops: format!("validate;1;{n};{n}"),
        }
    }

    #[test]
    fn a_pack_holds_fifty_readings_of_one_site_and_what_is_packed_comes_out_again() {
        let readings: Vec<_> = (0..120)
            .map(|n| reading(if n % 3 == 0 { "b" } else { "a" }, n, 4))
            .collect();
        let bodies: Vec<_> = readings.iter().map(|reading| reading.body.clone()).collect();
        let packs = pack(readings);
        assert_eq!(packs.len(), 3, "80 of one site, 40 of the other");
        let mut seen = Vec::new();
        for (outgoing, positions) in &packs {
            assert!(positions.len() <= READINGS_MAX);
            let hops = &outgoing
                .headers
                .iter()
                .find(|(name, _)| *name == header::HOPS)
                .unwrap()
                .1;
            let items = unpack(&outgoing.payload, hops).unwrap();
            assert_eq!(items.len(), positions.len());
            for ((body, hops), position) in items.iter().zip(positions) {
                assert_eq!(body, &bodies[*position]);
                assert_eq!(hops, &format!("validate;1;{position};{position}"));
                seen.push(*position);
            }
            assert!(outgoing.headers.iter().all(|(name, _)| *name != header::MSG_ID));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..120).collect::<Vec<_>>());
    }

    #[test]
    fn a_pack_stays_within_its_bytes_and_one_reading_is_still_a_pack() {
        let packs = pack((0..4).map(|n| reading("a", n, 200_000)).collect());
        assert_eq!(packs.iter().map(|(_, p)| p.len()).collect::<Vec<_>>(), [2, 2]);
        assert!(
            packs
                .iter()
                .all(|(outgoing, _)| outgoing.payload.len() <= BYTES_MAX)
        );
        let single = pack(vec![reading("a", 7, 1)]);
        assert_eq!(single.len(), 1);
        assert_eq!(single[0].0.subject, "valid.a._pack");
    }

    #[test]
    fn what_is_no_array_is_no_pack() {
        for text in ["", "{}", "[1,", "[1]x", "null"] {
            assert!(unpack(&Bytes::from(text), "").is_err(), "{text}");
        }
    }
}
