//! The recorder of a node: the rings of its entities, and what was kept of those that failed.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use arc_swap::ArcSwap;

use super::{
    recording::{Recording, now},
    ring::{Ring, SharedRing},
};
use crate::{
    event::ActorPath,
    id::{EntityId, NodeId},
    infra::sync::lock,
};

/// How many messages of an entity are kept where an operator does not say how many.
pub(crate) const TURNS_DEFAULT: u32 = 256;

/// How many messages of an entity are kept at most.
pub(crate) const TURNS_MAX: u32 = 65_536;

/// How many entities of a node are recorded at most. A further one takes the place of the entity
/// with the oldest last message.
const RINGS_MAX: usize = 1024;

/// How many bytes the rings of a node have, about.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many recordings of entities that failed a node keeps in memory.
const FAILED_MAX: usize = 16;

/// How many files of recordings a node leaves in its folder. Older ones are removed.
pub(crate) const FILES_MAX: usize = 64;

/// How many of them may be of one entity.
const FILES_EACH_MAX: usize = 8;

/// The flight recorder of a node.
#[derive(Default)]
pub(crate) struct Recorder {
    /// The entities that an operator has asked for: read without a lock, for each batch of
    /// messages of each entity, once there are any.
    asked: ArcSwap<Vec<(String, EntityId)>>,
    rings: Mutex<Rings>,
    failed: Mutex<VecDeque<Arc<Recording>>>,
    /// Where the recordings of entities that fail are written.
    folder: OnceLock<PathBuf>,
}

#[derive(Default)]
struct Rings {
    by_kind: HashMap<String, HashMap<EntityId, Held>>,
    count: usize,
    /// Counts the looks at rings: greater is later.
    looks: u64,
}

struct Held {
    ring: SharedRing,
    looked: u64,
    /// How many messages its type says. 0: its type does not say `record`, or that is not known.
    declared: u32,
    /// An operator has asked for it.
    is_asked: bool,
}

/// Whether and how an entity is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingReport {
    pub(crate) turns: usize,
    pub(crate) turns_max: usize,
    pub(crate) is_asked: bool,
}

impl Recorder {
    /// Sets where the recordings of entities that fail are written, once, at the start.
    pub(crate) fn set_folder(&self, folder: PathBuf) {
        let fresh = self.folder.set(folder).is_ok();
        assert!(fresh, "the folder is set once, at start");
    }

    pub(crate) fn folder(&self) -> Option<&PathBuf> {
        self.folder.get()
    }

    /// The ring of an entity that handles messages now, if it is recorded. `declared`: how many
    /// messages its type says; 0: none.
    pub(crate) fn ring(&self, kind: &str, id: &EntityId, declared: u32) -> Option<SharedRing> {
        if declared == 0 {
            let asked = self.asked.load();
            let mut asked = asked.iter();
            if !asked.any(|(of, it)| of == kind && it == id) {
                return None;
            }
        }
        let mut rings = lock(&self.rings);
        rings.looks += 1;
        let now = rings.looks;
        if let Some(held) = rings.get(kind, id) {
            (held.looked, held.declared) = (now, declared);
            return Some(held.ring.clone());
        }
        (declared > 0).then(|| rings.add(kind, id, declared, declared))
    }

    /// Records an entity from now on. `turns`: how many messages are kept; `None`: 256, or more
    /// where more are kept already. Returns whether it is the first that was asked for.
    pub(crate) fn begin(&self, kind: &str, id: &EntityId, turns: Option<u32>) -> bool {
        let mut rings = lock(&self.rings);
        if rings.get(kind, id).is_none() {
            drop(rings.add(kind, id, TURNS_DEFAULT, 0));
        }
        if let Some(held) = rings.get(kind, id) {
            held.is_asked = true;
            let mut ring = lock(&held.ring);
            let at_least = ring.turns_max().max(TURNS_DEFAULT as usize);
            ring.set_turns_max(turns.map_or(at_least, |turns| turns as usize));
        }
        let mut asked = Vec::clone(&self.asked.load());
        let name = (kind.to_owned(), id.clone());
        let is_first = asked.is_empty();
        if !asked.contains(&name) {
            asked.push(name);
        }
        self.asked.store(Arc::new(asked));
        is_first
    }

    /// Records an entity no more, unless its type wants it: then as many messages are kept as that
    /// says. Returns whether no other entity is asked
    /// for now.
    pub(crate) fn end(&self, kind: &str, id: &EntityId) -> bool {
        let mut rings = lock(&self.rings);
        match rings.get(kind, id) {
            Some(held) if held.declared > 0 => {
                held.is_asked = false;
                lock(&held.ring).set_turns_max(held.declared as usize);
            }
            Some(_) => rings.remove(kind, id),
            None => {}
        }
        let mut asked = Vec::clone(&self.asked.load());
        let before = asked.len();
        asked.retain(|(of, it)| of != kind || it != id);
        let is_last = before > 0 && asked.is_empty();
        self.asked.store(Arc::new(asked));
        is_last
    }

    pub(crate) fn report(&self, kind: &str, id: &EntityId) -> Option<RingReport> {
        let mut rings = lock(&self.rings);
        let held = rings.get(kind, id)?;
        let ring = lock(&held.ring);
        Some(RingReport {
            turns: ring.turns(),
            turns_max: ring.turns_max(),
            is_asked: held.is_asked,
        })
    }

    /// What is recorded of an entity. `None`: nothing is.
    pub(crate) fn recording(
        &self,
        node: &NodeId,
        kind: &str,
        id: &str,
        why: &str,
    ) -> Option<Recording> {
        let ring = lock(&self.rings)
            .get(kind, &EntityId::new(id))
            .map(|held| held.ring.clone())?;
        let sections = lock(&ring).sections();
        (!sections.is_empty()).then(|| Recording {
            casty: env!("CARGO_PKG_VERSION").to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            node: node.to_string(),
            why: why.to_owned(),
            written: now(),
            sections,
            journal: None,
        })
    }

    /// An entity has failed: keeps what is recorded of it, if anything is.
    #[cold]
    pub(crate) fn failed(
        &self,
        node: &NodeId,
        who: &ActorPath,
        why: &str,
    ) -> Option<Arc<Recording>> {
        if lock(&self.rings).count == 0 {
            return None;
        }
        let why = format!("it failed: {why}");
        let recording = self.recording(node, &who.kind, &who.id, &why)?;
        let recording = Arc::new(recording);
        let mut failed = lock(&self.failed);
        // One that fails again and again does not push out the others.
        failed.retain(|it| it.kind != recording.kind || it.id != recording.id);
        if failed.len() == FAILED_MAX {
            failed.pop_front();
        }
        failed.push_back(recording.clone());
        Some(recording)
    }

    /// What was kept when an entity failed last.
    pub(crate) fn last_failed(&self, kind: &str, id: &str) -> Option<Arc<Recording>> {
        let failed = lock(&self.failed);
        let mut latest = failed.iter().rev();
        latest.find(|it| it.kind == kind && it.id == id).cloned()
    }

    /// The rings have grown: forgets some, if they have grown too much.
    pub(crate) fn check_room(&self) {
        lock(&self.rings).make_room(BYTES_MAX);
    }
}

impl Rings {
    fn get(&mut self, kind: &str, id: &EntityId) -> Option<&mut Held> {
        self.by_kind.get_mut(kind)?.get_mut(id)
    }

    fn add(&mut self, kind: &str, id: &EntityId, turns: u32, declared: u32) -> SharedRing {
        if self.count >= RINGS_MAX {
            self.forget_oldest();
        }
        let ring = Arc::new(Mutex::new(Ring::new(turns as usize)));
        let held = Held {
            ring: ring.clone(),
            looked: self.looks,
            declared,
            is_asked: false,
        };
        let of_kind = self.by_kind.entry(kind.to_owned()).or_default();
        if of_kind.insert(id.clone(), held).is_none() {
            self.count += 1;
        }
        ring
    }

    fn remove(&mut self, kind: &str, id: &EntityId) {
        let Some(of_kind) = self.by_kind.get_mut(kind) else {
            return;
        };
        if of_kind.remove(id).is_some() {
            self.count -= 1;
        }
        if of_kind.is_empty() {
            self.by_kind.remove(kind);
        }
    }

    /// Forgets a ring that no operator asked for: the one with the oldest last message. Returns
    /// about how many bytes it had.
    fn forget_oldest(&mut self) -> Option<usize> {
        let all = self.by_kind.iter();
        let all = all.flat_map(|(kind, of)| of.iter().map(move |(id, held)| (kind, id, held)));
        // What is at work may be stuck, and then it is what people ask for.
        let oldest = all
            .filter(|(.., held)| !held.is_asked)
            .min_by_key(|(.., held)| (lock(&held.ring).is_at_work(), held.looked));
        let (kind, id, held) = oldest?;
        let (kind, id, bytes) = (kind.clone(), id.clone(), lock(&held.ring).bytes());
        self.remove(&kind, &id);
        Some(bytes)
    }

    fn make_room(&mut self, bytes_max: usize) {
        let all = self.by_kind.values().flat_map(HashMap::values);
        let mut bytes: usize = all.map(|held| lock(&held.ring).bytes()).sum();
        while bytes > bytes_max
            && self.count > 1
            && let Some(forgotten) = self.forget_oldest()
        {
            bytes -= forgotten;
        }
    }
}

/// Writes the recording of an entity that has failed, under a name of its own, and removes what is
/// too old. Returns the file.
///
/// # Errors
/// As text: the folder cannot be made, or the file not be written.
pub(crate) fn write_failed(folder: &Path, recording: &Recording) -> Result<PathBuf, String> {
    let named = |error: std::io::Error| format!("`{}`: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(named)?;
    let plain = |text: &str| -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        };
        text.chars().take(64).map(plain).collect()
    };
    let (kind, id) = (plain(&recording.kind), plain(&recording.id));
    // Sorted by name they are sorted by time.
    let ending = format!("-{kind}-{id}.casty");
    let file = folder.join(format!("{:020}{ending}", recording.written));
    recording.write(&file).map_err(|error| error.to_string())?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(named)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "casty"))
        .collect();
    files.sort_unstable();
    let of_it = || {
        let files = files.iter();
        files.filter(|it| it.to_string_lossy().ends_with(&ending))
    };
    let too_many = of_it().count().saturating_sub(FILES_EACH_MAX);
    let surplus = files.len().saturating_sub(FILES_MAX);
    for old in of_it().take(too_many).chain(files.iter().take(surplus)) {
        match std::fs::remove_file(old) {
            // Another node that writes here has removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.map_err(named)?,
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{
        answers::Answers,
        recording::{RecordedState, Section},
    };

    fn id(number: usize) -> EntityId {
        EntityId::new(number.to_string())
    }

    #[test]
    fn the_entity_whose_last_message_is_the_oldest_is_forgotten_first() {
        let recorder = Recorder::default();
        assert!(recorder.ring("T", &id(0), 0).is_none());
        assert!(recorder.begin("T", &id(0), Some(4)));
        assert!(
            !recorder.begin("T", &id(0), Some(5)),
            "it was asked for before"
        );
        for number in 1..RINGS_MAX {
            assert!(recorder.ring("T", &id(number), 9).is_some());
        }
        // Used again, so that the next one is the oldest.
        assert!(recorder.ring("T", &id(1), 9).is_some());
        assert!(recorder.ring("U", &id(1), 9).is_some());
        assert!(
            recorder
                .report("T", &id(0))
                .is_some_and(|it| it.is_asked && it.turns_max == 5)
        );
        assert!(recorder.report("T", &id(1)).is_some());
        assert_eq!(recorder.report("T", &id(2)), None);
        assert!(!recorder.end("T", &id(1)), "no operator asked for it");
        assert!(recorder.report("T", &id(1)).is_some(), "its type says so");
        assert!(recorder.end("T", &id(0)));
        assert!(recorder.ring("T", &id(0), 0).is_none());
    }

    #[test]
    fn an_operator_takes_nothing_from_what_a_type_says() {
        let recorder = Recorder::default();
        let kept = |recorder: &Recorder| recorder.report("T", &id(0)).map(|it| it.turns_max);
        assert!(recorder.ring("T", &id(0), 1000).is_some());
        recorder.begin("T", &id(0), None);
        assert_eq!(kept(&recorder), Some(1000));
        recorder.begin("T", &id(0), Some(7));
        assert_eq!(kept(&recorder), Some(7));
        assert!(recorder.end("T", &id(0)));
        assert_eq!(kept(&recorder), Some(1000));
    }

    #[test]
    fn rings_that_are_too_large_together_are_forgotten() {
        let recorder = Recorder::default();
        for number in 0..4 {
            let ring = recorder.ring("T", &id(number), 9).unwrap();
            let state = RecordedState {
                name: String::new(),
                bytes: vec![0; 1000].into(),
            };
            let turn = serde_turn();
            lock(&ring).begin(Some(Ok(state)), turn, Arc::new(Answers::recorded()));
        }
        lock(&recorder.rings).make_room(2500);
        let left: Vec<_> = (0..4)
            .filter(|&n| recorder.report("T", &id(n)).is_some())
            .collect();
        assert_eq!(left, [2, 3]);
        // One is never too large.
        lock(&recorder.rings).make_room(10);
        assert!(recorder.report("T", &id(3)).is_some());
    }

    fn serde_turn() -> crate::recorder::RecordedTurn {
        use crate::recorder::recording::{StateAfter, TurnOutcome};
        crate::recorder::RecordedTurn {
            at: 0,
            took: 0,
            caller: crate::message::caller::Caller::Local,
            sender: None,
            message: "m".to_owned(),
            bytes: None,
            due: None,
            outcome: TurnOutcome::Running,
            state: StateAfter::Unknown,
            asks: Vec::new(),
        }
    }

    #[test]
    fn a_folder_keeps_the_last_files() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let section = Section {
            state: Err("unknown".to_owned()),
            turns: vec![serde_turn()],
        };
        let mut recording = Recording {
            casty: String::new(),
            kind: "a/T".to_owned(),
            id: "../../x\0y".to_owned(),
            node: String::new(),
            why: String::new(),
            written: 0,
            sections: vec![section],
            journal: None,
        };
        for written in 0..FILES_MAX as u64 + 3 {
            recording.written = written;
            recording.id = format!("../../x\0y{}", written % 20);
            let file = write_failed(&folder, &recording).unwrap();
            assert_eq!(file.parent(), Some(folder.as_path()));
            assert_eq!(Recording::read(&file).unwrap(), recording);
        }
        std::fs::write(folder.join("other"), "").unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), FILES_MAX + 1);
        assert!(
            names[0].starts_with("00000000000000000003-a_T-.._.._x_y3"),
            "{names:?}"
        );
        let error = write_failed(&folder, &recording).unwrap_err();
        assert!(error.contains("exists"), "{error}");
    }
}
