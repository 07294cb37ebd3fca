//! A persistent linear hash table of sorted runs.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::model::caveat::Caveat;
use crate::model::refs::ObjectKey;

use super::Found;
use super::edge::{Edge, Side};

/// Edges a bucket holds on average before one bucket is split.
const LOAD: usize = 16;
/// Buckets behind one shared pointer: a write copies this many.
const SEGMENT: usize = 256;

type Entry = (Edge, Option<Arc<Caveat>>);

/// Edges of one bucket in their order, one pointer away from the bucket; the conditions that they name, which few have.
#[derive(Clone, Debug, Default)]
struct Run {
    edges: Arc<[Edge]>,
    caveats: Option<Arc<[Arc<Caveat>]>>,
}

/// Edges, found by the hash of one end. Cloning it is cheap, and a clone does not see later writes.
#[derive(Clone, Debug)]
pub(super) struct Table<S> {
    segments: Vec<Arc<[Run]>>,
    buckets: usize,
    len: usize,
    side: PhantomData<S>,
}

/// Some edges of one run, in its order.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    run: Option<&'a Run>,
    edges: &'a [Edge],
}

impl<'a> Part<'a> {
    pub(super) fn get(&self, order: impl Fn(&Edge) -> Ordering) -> Option<Found<'a>> {
        let place = self.edges.binary_search_by(order).ok()?;
        let edge = self.edges.get(place)?;
        Some(Found { edge: *edge, caveat: self.run?.caveat(edge) })
    }

    pub(super) fn of(&self, order: impl Fn(&Edge) -> Ordering) -> impl Iterator<Item = Found<'a>> {
        let start = self.edges.partition_point(|edge| order(edge) == Ordering::Less);
        let (run, edges) = (self.run, self.edges.get(start..).unwrap_or(&[]));
        let same = edges.iter().take_while(move |edge| order(edge) == Ordering::Equal);
        same.filter_map(move |edge| Some(Found { edge: *edge, caveat: run?.caveat(edge) }))
    }
}

// === impl Run ===

impl Run {
    fn new(entries: Vec<Entry>) -> Self {
        let mut caveats: Vec<Arc<Caveat>> = Vec::new();
        let edges = entries.into_iter().map(|(mut edge, caveat)| {
            edge.caveat = 0;
            if let Some(caveat) = caveat {
                caveats.push(caveat);
                edge.caveat = u32::try_from(caveats.len()).unwrap_or(0);
            }
            edge
        });
        let edges = edges.collect();
        Self { edges, caveats: (!caveats.is_empty()).then(|| caveats.into()) }
    }

    fn caveat(&self, edge: &Edge) -> Option<&Arc<Caveat>> {
        let place = usize::try_from(edge.caveat).ok()?.checked_sub(1)?;
        self.caveats.as_ref()?.get(place)
    }

    fn entries(&self, spare: usize) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.edges.len() + spare);
        entries.extend(self.edges.iter().map(|edge| (*edge, self.caveat(edge).cloned())));
        entries
    }

    fn heap_bytes(&self) -> usize {
        // A shared pointer's target carries two counters.
        let counters = 2 * size_of::<usize>();
        let caveats = self.caveats.iter().flat_map(|caveats| caveats.iter());
        let caveats: usize = caveats.map(|caveat| size_of::<Arc<Caveat>>() + counters + size_of_val(&**caveat)).sum();
        counters + size_of_val(&*self.edges) + caveats
    }
}

// === impl Table ===

impl<S: Side> Table<S> {
    pub(super) fn build(mut entries: Vec<Entry>) -> Self {
        let buckets = (entries.len() / LOAD).next_power_of_two().max(1);
        let mask = buckets as u64 - 1;
        // Stable, so that the later of two equal edges is the last of its run.
        entries.sort_by(|(one, _), (other, _)| {
            (S::hash(one) & mask).cmp(&(S::hash(other) & mask)).then_with(|| S::order(one, other))
        });
        let mut table = Self { segments: Vec::new(), buckets, len: 0, side: PhantomData };
        let mut entries = entries.into_iter().peekable();
        let mut segment: Vec<Run> = Vec::with_capacity(SEGMENT);
        for bucket in 0..buckets as u64 {
            let mut run: Vec<Entry> = Vec::with_capacity(2 * LOAD);
            while let Some(entry) = entries.next_if(|(edge, _)| S::hash(edge) & mask == bucket) {
                match run.last_mut() {
                    Some(last) if S::order(&last.0, &entry.0) == Ordering::Equal => *last = entry,
                    _ => run.push(entry),
                }
            }
            table.len += run.len();
            segment.push(Run::new(run));
            if segment.len() == SEGMENT {
                table.segments.push(segment.drain(..).collect());
            }
        }
        if !segment.is_empty() {
            table.segments.push(segment.into());
        }
        table
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let segment = |segment: &Arc<[Run]>| {
            2 * size_of::<usize>() + size_of_val(&**segment) + segment.iter().map(Run::heap_bytes).sum::<usize>()
        };
        self.segments.capacity() * size_of::<Arc<[Run]>>() + self.segments.iter().map(segment).sum::<usize>()
    }

    /// The edges in the bucket of `end` that `order` calls equal; it must agree with the order of the side.
    pub(super) fn run(&self, end: ObjectKey, order: impl Fn(&Edge) -> Ordering) -> impl Iterator<Item = Found<'_>> {
        let run = self.bucket(end.id.hash(end.kind));
        let edges = run.map_or(&[][..], |run| &*run.edges);
        let start = edges.partition_point(|edge| order(edge) == Ordering::Less);
        let edges = edges.get(start..).unwrap_or(&[]);
        let same = edges.iter().take_while(move |edge| order(edge) == Ordering::Equal);
        same.filter_map(move |edge| Some(Found { edge: *edge, caveat: run?.caveat(edge) }))
    }

    /// The edges in the bucket of `end` that `order` calls equal, as [`Self::run`] finds them, for looking into.
    pub(super) fn part(&self, end: ObjectKey, order: impl Fn(&Edge) -> Ordering) -> Part<'_> {
        let run = self.bucket(end.id.hash(end.kind));
        let edges = run.map_or(&[][..], |run| &*run.edges);
        let start = edges.partition_point(|edge| order(edge) == Ordering::Less);
        let edges = edges.get(start..).unwrap_or(&[]);
        let length = edges.partition_point(|edge| order(edge) == Ordering::Equal);
        Part { run, edges: edges.get(..length).unwrap_or(&[]) }
    }

    pub(super) fn put(&mut self, edge: Edge, caveat: Option<Arc<Caveat>>) {
        let Some(run) = self.bucket(S::hash(&edge)) else { return };
        let mut entries = run.entries(1);
        match run.edges.binary_search_by(|other| S::order(other, &edge)) {
            Ok(place) => {
                if let Some(entry) = entries.get_mut(place) {
                    *entry = (edge, caveat);
                }
            }
            Err(place) => {
                entries.insert(place, (edge, caveat));
                self.len += 1;
            }
        }
        self.replace(self.place(S::hash(&edge)), Run::new(entries));
        if self.len > self.buckets * LOAD {
            self.split();
        }
    }

    pub(super) fn remove(&mut self, edge: Edge) {
        let Some(run) = self.bucket(S::hash(&edge)) else { return };
        if let Ok(place) = run.edges.binary_search_by(|other| S::order(other, &edge)) {
            let mut entries = run.entries(0);
            entries.remove(place);
            self.replace(self.place(S::hash(&edge)), Run::new(entries));
            self.len -= 1;
        }
    }

    /// The bucket of a hash: of the largest power of two in use, or of half of it where that bucket is not split yet.
    fn place(&self, hash: u64) -> usize {
        let wide = self.buckets.next_power_of_two() as u64 - 1;
        let place = usize::try_from(hash & wide).unwrap_or(0);
        if place < self.buckets { place } else { usize::try_from(hash & (wide >> 1)).unwrap_or(0) }
    }

    fn bucket(&self, hash: u64) -> Option<&Run> {
        let place = self.place(hash);
        self.segments.get(place / SEGMENT)?.get(place % SEGMENT)
    }

    fn replace(&mut self, place: usize, run: Run) {
        let segment = self.segments.get_mut(place / SEGMENT).map(Arc::make_mut);
        if let Some(bucket) = segment.and_then(|segment| segment.get_mut(place % SEGMENT)) {
            *bucket = run;
        }
    }

    fn push(&mut self, run: Run) {
        match self.segments.last_mut().filter(|segment| segment.len() < SEGMENT) {
            Some(segment) => *segment = segment.iter().cloned().chain([run]).collect(),
            None => self.segments.push(Arc::new([run])),
        }
        self.buckets += 1;
    }

    /// Adds one bucket and moves to it what its hashes say of the one it stems from.
    fn split(&mut self) {
        let half = (self.buckets + 1).next_power_of_two() / 2;
        let Some(old) = self.buckets.checked_sub(half) else { return };
        let Some(run) = self.segments.get(old / SEGMENT).and_then(|segment| segment.get(old % SEGMENT)) else { return };
        let entries = run.entries(0);
        self.push(Run::default());
        let (stay, go): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(edge, _)| self.place(S::hash(edge)) == old);
        let new = self.buckets - 1;
        self.replace(old, Run::new(stay));
        self.replace(new, Run::new(go));
    }
}
