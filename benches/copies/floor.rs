//! The floor: the same bytes, appended by three processes, and nothing else.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    entities::all_of,
    support::{AnyError, Process, now},
};

/// The first argument of a process that follows.
pub(crate) const FOLLOWER: &str = "follower";

/// The length of a file, which is used from its start again.
const END: u64 = 48 * 1024 * 1024;

/// How many commands are written at once.
const BATCH: usize = 1024;

/// A file that is filled with zeros, or none.
struct Appended {
    file: Option<File>,
    offset: u64,
}

impl Appended {
    fn new(path: Option<PathBuf>) -> Result<Self, AnyError> {
        let made = |path| -> Result<File, AnyError> {
            let file = File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .open(path)?;
            file.write_all_at(&vec![0; usize::try_from(END)?], 0)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = path.map(made).transpose()?;
        Ok(Self { file, offset: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AnyError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        if self.offset + bytes.len() as u64 > END {
            self.offset = 0;
        }
        file.write_all_at(bytes, self.offset)?;
        file.sync_data()?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// A follower: appends what comes, and confirms it with one byte. Its argument is a folder, or
/// nothing for a floor without disks.
pub(crate) fn follow(arguments: &[String]) -> Result<(), AnyError> {
    let folder = arguments.first();
    let mut appended = Appended::new(folder.map(|folder| Path::new(folder).join("floor")))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let (mut length, mut bytes) = ([0; 4], Vec::new());
    // The end of the stream ends the process.
    while stream.read_exact(&mut length).is_ok() {
        bytes.resize(usize::try_from(u32::from_le_bytes(length))?, 0);
        stream.read_exact(&mut bytes)?;
        appended.append(&bytes)?;
        stream.write_all(&[1])?;
    }
    Ok(())
}

type Command = oneshot::Sender<()>;

/// A leader with two followers.
pub(crate) struct Floor {
    commands: mpsc::Sender<Command>,
    _followers: Vec<Process>,
    _folder: tempfile::TempDir,
}

impl Floor {
    /// `bytes`: of a command.
    pub(crate) fn start(bytes: usize, is_on_disk: bool) -> Result<Self, AnyError> {
        let folder = tempfile::tempdir()?;
        let (mut followers, mut streams) = (Vec::new(), Vec::new());
        for number in 0..2 {
            let path = folder.path().join(number.to_string());
            std::fs::create_dir(&path)?;
            let path = path.to_str().ok_or("a folder whose name is no text")?;
            let on_disk = [FOLLOWER, path];
            let arguments = if is_on_disk {
                &on_disk[..]
            } else {
                &on_disk[..1]
            };
            let follower = Process::start(arguments)?;
            let stream = TcpStream::connect(&follower.address)?;
            stream.set_nodelay(true)?;
            streams.push(stream);
            followers.push(follower);
        }
        let appended = Appended::new(is_on_disk.then(|| folder.path().join("floor")))?;
        let (commands, queue) = mpsc::channel(2 * BATCH);
        thread::spawn(move || {
            if let Err(error) = lead(queue, &mut streams, appended, bytes) {
                // The clients notice it, too: they are answered no more.
                eprintln!("the floor failed: {error}");
            }
        });
        Ok(Self {
            commands,
            _followers: followers,
            _folder: folder,
        })
    }

    /// So many clients give commands for so long. Returns how long each command took.
    pub(crate) async fn give(
        &self,
        clients: u64,
        round: Duration,
    ) -> Result<Vec<Duration>, AnyError> {
        let begun = now();
        let clients = (0..clients).map(|_| {
            let commands = self.commands.clone();
            async move {
                let mut took = Vec::new();
                while begun.elapsed() < round {
                    let since = now();
                    let (done, is_done) = oneshot::channel();
                    commands.send(done).await?;
                    is_done.await?;
                    took.push(since.elapsed());
                }
                Ok(took)
            }
        });
        all_of(clients).await
    }
}

/// Writes what waits, until the clients are gone.
fn lead(
    mut queue: mpsc::Receiver<Command>,
    followers: &mut [TcpStream],
    mut appended: Appended,
    bytes: usize,
) -> Result<(), AnyError> {
    let (mut waiting, mut batch) = (Vec::new(), Vec::new());
    while queue.blocking_recv_many(&mut waiting, BATCH) > 0 {
        batch.clear();
        batch.extend(u32::try_from(waiting.len() * bytes)?.to_le_bytes());
        batch.resize(4 + waiting.len() * bytes, 7);
        for follower in &mut *followers {
            follower.write_all(&batch)?;
        }
        appended.append(&batch[4..])?;
        for follower in &mut *followers {
            follower.read_exact(&mut [0])?;
        }
        for done in waiting.drain(..) {
            // The round may be over.
            let _ = done.send(());
        }
    }
    Ok(())
}
