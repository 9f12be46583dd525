//! What is on its way to the broker. A message's input ends when all that follows from it is confirmed.
use crate::{
    Cause,
    compose::Packable,
    consume::{End, Item},
    fault::{self, Point},
    pack,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use std::{collections::VecDeque, sync::Arc};
use telltale_nats::{
    Lane,
    publish::{Ack, Outgoing, PublishError, Publisher},
};

/// Groups on their way at once.
const GROUPS_MAX: usize = 4;
/// Messages in a group from which on no further work is begun while [`GROUPS_MAX`] are on their way.
const GROUP_MESSAGES_MAX: usize = 1_000;

/// An input that waits for the confirmation of what follows from it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) item: Item,
    pub(crate) cause: Cause,
    /// How it ends once all is confirmed.
    pub(crate) end: End,
    /// To publish where the stream keeps no more of what was to be published.
    pub(crate) instead: Option<Box<Outgoing>>,
    /// Whether it only goes elsewhere, to be tried there.
    pub(crate) is_moved: bool,
    left: usize,
    refused: Option<PublishError>,
}

/// What becomes of inputs when a group is back.
#[derive(Debug)]
pub(crate) enum Settled {
    /// All that follows from it is confirmed.
    Done(Waiting),
    /// The broker will never take what follows from it.
    Refused(Waiting, PublishError),
}

#[derive(Debug)]
struct Post {
    outgoing: Outgoing,
    lane: Option<Lane>,
    /// Positions in `Group::inputs`.
    owners: Vec<usize>,
}

#[derive(Debug, Default)]
struct Group {
    posts: Vec<Post>,
    readings: Vec<(Packable, usize)>,
    inputs: Vec<Option<Waiting>>,
}

type Answer = (Group, Vec<Result<Ack, PublishError>>);

/// Groups that are filled, on their way, or held back.
pub(crate) struct Outbox {
    publisher: Arc<Publisher>,
    filling: Group,
    flying: FuturesUnordered<BoxFuture<'static, Answer>>,
    blocked: VecDeque<Group>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("filling", &self.filling.len())
            .field("flying", &self.flying.len())
            .field("blocked", &self.blocked.len())
            .finish_non_exhaustive()
    }
}

/// What follows from one input.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    pub(crate) singles: Vec<(Outgoing, Option<Lane>)>,
    pub(crate) readings: Vec<Packable>,
    pub(crate) instead: Option<Box<Outgoing>>,
}

/// What a returned group means for the worker.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    pub(crate) settled: Vec<Settled>,
    /// Lanes of what was confirmed.
    pub(crate) confirmed: Vec<Lane>,
    /// Why some of it could not be published for now; that is held back.
    pub(crate) away: Option<PublishError>,
}

impl Outbox {
    pub(crate) fn new(publisher: Arc<Publisher>) -> Self {
        Self {
            publisher,
            filling: Group::default(),
            flying: FuturesUnordered::new(),
            blocked: VecDeque::new(),
        }
    }

    /// Whether no further work should be begun.
    pub(crate) fn is_full(&self) -> bool {
        self.flying.len() >= GROUPS_MAX && self.filling.len() >= GROUP_MESSAGES_MAX
    }

    pub(crate) fn has_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    pub(crate) fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Takes what follows from an input, which must be something.
    pub(crate) fn put(&mut self, item: Item, cause: Cause, end: End, follow: Follow) {
        debug_assert!(
            !follow.singles.is_empty() || !follow.readings.is_empty(),
            "nothing would ever settle it"
        );
        let owner = self.filling.inputs.len();
        let left = follow.singles.len() + follow.readings.len();
        let is_moved = follow.readings.is_empty() && follow.singles.iter().all(|(_, lane)| lane.is_none());
        for (outgoing, lane) in follow.singles {
            self.filling.posts.push(Post {
                outgoing,
                lane,
                owners: vec![owner],
            });
        }
        let readings = follow.readings.into_iter().map(|reading| (reading, owner));
        self.filling.readings.extend(readings);
        self.filling.inputs.push(Some(Waiting {
            item,
            cause,
            end,
            instead: follow.instead,
            is_moved,
            left,
            refused: None,
        }));
    }

    /// Sends what is there, as far as there is room.
    pub(crate) fn send(&mut self) {
        while self.flying.len() < GROUPS_MAX
            && let Some(group) = self.blocked.pop_front().or_else(|| self.filling.take())
        {
            self.fly(group);
        }
    }

    /// Sends one group, held back ones first; whether there was any.
    pub(crate) fn send_one(&mut self) -> bool {
        let group = self.blocked.pop_front().or_else(|| self.filling.take());
        group.map(|group| self.fly(group)).is_some()
    }

    fn fly(&mut self, mut group: Group) {
        group.close();
        let publisher = Arc::clone(&self.publisher);
        let outgoing: Vec<_> = group.posts.iter().map(|post| post.outgoing.clone()).collect();
        self.flying.push(
            async move {
                group.pass(Point::BeforePublish, Point::BeforeQuarantine, |_| true);
                let results = publisher.publish(outgoing).await;
                group.pass(Point::AfterPublish, Point::AfterQuarantine, |place| {
                    results[place].is_ok()
                });
                (group, results)
            }
            .boxed(),
        );
    }

    /// The next group that is back; pending for ever while none is on its way.
    pub(crate) async fn back(&mut self) -> Returned {
        let Some((group, results)) = self.flying.next().await else {
            return futures::future::pending().await;
        };
        let (returned, held) = group.settle(results);
        if let Some(held) = held {
            self.blocked.push_back(held);
        }
        returned
    }
}

impl Group {
    fn len(&self) -> usize {
        self.posts.len() + self.readings.len()
    }

    fn take(&mut self) -> Option<Self> {
        (self.len() > 0).then(|| std::mem::take(self))
    }

    /// Passes one point if there are messages that go on, the other if there are entries for the quarantine.
    fn pass(&self, on: Point, entry: Point, counts: impl Fn(usize) -> bool) {
        for (point, is_entry) in [(on, false), (entry, true)] {
            let mut posts = self.posts.iter().enumerate();
            if posts.any(|(place, post)| (post.lane == Some(Lane::Quarantine)) == is_entry && counts(place)) {
                fault::point(point);
            }
        }
    }

    /// Packs the readings.
    fn close(&mut self) {
        let (readings, owners): (Vec<_>, Vec<_>) = std::mem::take(&mut self.readings).into_iter().unzip();
        for (outgoing, positions) in pack::pack(readings) {
            self.posts.push(Post {
                outgoing,
                lane: Some(Lane::Valid),
                owners: positions.into_iter().map(|position| owners[position]).collect(),
            });
        }
    }

    /// Sorts out what is confirmed, refused, and to be sent again.
    fn settle(mut self, results: Vec<Result<Ack, PublishError>>) -> (Returned, Option<Self>) {
        let mut returned = Returned::default();
        let mut again = Vec::new();
        for (mut post, result) in std::mem::take(&mut self.posts).into_iter().zip(results) {
            match result {
                Ok(_) => {
                    // A pack is one message and several readings: count what people count.
                    returned
                        .confirmed
                        .extend(post.owners.iter().filter_map(|_| post.lane));
                    self.confirm(&post.owners, &mut returned.settled);
                }
                Err(error @ (PublishError::Full | PublishError::Busy | PublishError::Away(_))) => {
                    returned.away = Some(error);
                    again.push(post);
                }
                // Stated limits: what cannot be kept is said in an event instead.
                Err(PublishError::CapForSubject | PublishError::TooLarge) if self.has_instead(&post) => {
                    if let Some(instead) = self.instead(&post) {
                        post.outgoing = *instead;
                        post.lane = Some(Lane::Event);
                    }
                    again.push(post);
                }
                // A quarantine entry is never given up, and a cap on anything else is a full stream.
                Err(error) if error == PublishError::CapForSubject || self.is_final(&post) => {
                    returned.away = Some(error);
                    again.push(post);
                }
                Err(error) => {
                    for owner in &post.owners {
                        if let Some(input) = &mut self.inputs[*owner] {
                            input.refused = Some(error.clone());
                        }
                    }
                    self.confirm(&post.owners, &mut returned.settled);
                }
            }
        }
        self.posts = again;
        let held = (!self.posts.is_empty()).then_some(self);
        (returned, held)
    }

    fn confirm(&mut self, owners: &[usize], settled: &mut Vec<Settled>) {
        for owner in owners {
            let place = &mut self.inputs[*owner];
            let Some(input) = place else { continue };
            input.left -= 1;
            if input.left == 0
                && let Some(mut input) = place.take()
            {
                settled.push(match input.refused.take() {
                    Some(error) => Settled::Refused(input, error),
                    None => Settled::Done(input),
                });
            }
        }
    }

    fn has_instead(&self, post: &Post) -> bool {
        post.owners.iter().any(|owner| {
            self.inputs[*owner]
                .as_ref()
                .is_some_and(|input| input.instead.is_some())
        })
    }

    /// Whether its input is to be terminated once this is confirmed.
    fn is_final(&self, post: &Post) -> bool {
        post.owners.iter().any(|owner| {
            self.inputs[*owner]
                .as_ref()
                .is_some_and(|input| matches!(input.end, End::Term(_)))
        })
    }

    fn instead(&mut self, post: &Post) -> Option<Box<Outgoing>> {
        let [owner] = post.owners.as_slice() else {
            return None;
        };
        self.inputs[*owner].as_mut()?.instead.take()
    }
}
