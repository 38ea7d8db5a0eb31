//! Attacks a healthy cluster under load: `casty-hostile [--seconds N] [--case NAME] [--tls|--plain]
//! [--short] [--keep FOLDER]`.
//!
//! Three node processes serve a load of asks and tells, first for a while in quiet, then beside one
//! case of hostile peers after the other, which run in a process of their own with the time that
//! no other process wants. `--seconds` is for each of the two ways, with TLS and without it, and is
//! divided among the cases. `--short` takes a few of the cases, and does not judge how long answers
//! take, since the machine may be busy.
//!
//! In each case no node may crash, no member be lost, none restart, no other node lead, no ask or
//! tell fail, no process grow by more than 64 MiB beyond the quiet cluster, and no log by more than
//! 1 MiB a minute; 99 of 100 asks are answered within three times what they took in quiet. The
//! program prints what it measured, and a line for each thing that does not hold; then it fails.

mod cases;
mod certificates;
mod cluster;
mod early;
mod judge;
mod late;
mod load;
mod proxy;
mod speak;

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    cases::{CASES, Case, DESCRIPTORS},
    cluster::{Cluster, LIMIT, NAMES},
    judge::{Judge, Phase},
    load::Load,
    speak::Attacker,
};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Descriptors that a node may open beyond those that it has, in the case about them.
const SPARE_DESCRIPTORS: usize = 40;

struct Options {
    seconds: u64,
    case: Option<String>,
    tls: bool,
    plain: bool,
    short: bool,
    keep: Option<PathBuf>,
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        seconds: 60,
        case: None,
        tls: true,
        plain: true,
        short: false,
        keep: None,
    };
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
        match option.as_str() {
            "--tls" => options.plain = false,
            "--plain" => options.tls = false,
            "--short" => options.short = true,
            "--keep" => options.keep = Some(value()?.into()),
            "--seconds" => {
                let value = value()?;
                let number = value.parse();
                options.seconds =
                    number.map_err(|_| format!("--seconds needs a number, not `{value}`"))?;
            }
            "--case" => {
                let name = value()?;
                if CASES.iter().all(|case| case.name != name) {
                    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
                    return Err(format!("no case `{name}`; there are {}", names.join(", ")));
                }
                options.case = Some(name.clone());
            }
            _ => {
                return Err(format!(
                    "unknown option `{option}`; there are --seconds, --case, --tls, --plain, \
                     --short, --keep"
                ));
            }
        }
    }
    Ok(options)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, millis, folder] = &arguments[..]
        && first == "attack"
    {
        attack(
            name,
            Duration::from_millis(millis.parse()?),
            folder.as_ref(),
        )
        .await?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = options(&arguments)?;
    let temporary = tempfile::tempdir()?;
    let folder = options.keep.as_deref().unwrap_or(temporary.path());
    let mut wrong = Vec::new();
    for tls in [false, true] {
        if if tls { options.tls } else { options.plain } {
            let folder = folder.join(if tls { "with-tls" } else { "plain" });
            wrong.extend(run(&options, &folder, tls).await?);
        }
    }
    for line in &wrong {
        println!("does not hold: {line}");
    }
    Ok(if wrong.is_empty() {
        println!("all held");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The process of the attackers.
async fn attack(name: &str, limit: Duration, folder: &Path) -> Result<(), Failure> {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| format!("no case `{name}`"))?;
    let attacker = Arc::new(Attacker::read(folder)?);
    println!("{}", case.run(attacker, limit).await);
    Ok(())
}

/// All cases of one way. Returns what did not hold.
async fn run(options: &Options, folder: &Path, tls: bool) -> Result<Vec<String>, Failure> {
    let way = if tls { "with TLS" } else { "plain" };
    let cases: Vec<&Case> = CASES
        .iter()
        .filter(|case| case.is_for(tls) && (case.short || !options.short))
        .filter(|case| options.case.as_ref().is_none_or(|name| case.name == *name))
        .collect();
    let phases = u32::try_from(cases.len() + 1)?;
    let each = Duration::from_secs(options.seconds) / phases;
    let mut cluster = Cluster::start(folder, tls).await?;
    let load = Load::begin(&cluster.client, tls);
    // Until all counters are alive, and connections stand.
    warm_up(&load).await?;
    let mut quiet = Phase::begin(&cluster, &load);
    quiet.watch(&cluster, each, async { String::new() }).await;
    let mut judge = Judge::new(way, quiet.end(&cluster, &load).await, options.short);
    println!("{way}: {} s each", each.as_secs_f32());
    println!("{}", judge.quiet_line());
    write_knowledge(folder, &cluster)?;
    for case in cases {
        let limited = case.name == DESCRIPTORS;
        if limited {
            let open = cluster.descriptors(0);
            cluster
                .limit_descriptors(0, open + SPARE_DESCRIPTORS)
                .await?;
        }
        let mut phase = Phase::begin(&cluster, &load);
        let mut failed = None;
        let attacking = async {
            let done = attackers(case, each, folder, options.short).await;
            done.unwrap_or_else(|error| {
                failed = Some(error.to_string());
                String::new()
            })
        };
        phase.watch(&cluster, each, attacking).await;
        let measured = phase.end(&cluster, &load).await;
        judge.hear(case, measured, cluster.crashes());
        if let Some(error) = failed {
            judge.add(case, format!("nothing attacked it: {error}"));
        }
        if limited {
            if let Err(error) = cluster.lets_in(0).await {
                judge.add(case, format!("it lets no client in afterwards: {error}"));
            }
            cluster.limit_descriptors(0, 4096).await?;
        }
        // The next case begins with a cluster at rest.
        cool_down(&cluster, &load).await;
        if judge.is_over() {
            return Ok(judge.wrong);
        }
    }
    if let Err(error) = cluster.leave().await {
        judge
            .wrong
            .push(format!("{way}: a node does not leave: {error}"));
    }
    Ok(judge.wrong)
}

/// Starts the attackers, and returns what they say that they did.
///
/// Attackers have machines of their own. Here they have only the time that no other process wants:
/// a low priority alone lets them finish a slice of milliseconds first. `short`: no times are
/// judged, and the machine may be so busy that there is no such time.
async fn attackers(
    case: &Case,
    limit: Duration,
    folder: &Path,
    short: bool,
) -> Result<String, Failure> {
    let (program, arguments) = if short {
        ("nice", ["-n", "10"])
    } else {
        ("chrt", ["--idle", "0"])
    };
    let mut program = Command::new(program);
    program
        .args(arguments)
        .arg(std::env::current_exe()?)
        .args(["attack", case.name, &limit.as_millis().to_string()])
        .arg(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let output = tokio::time::timeout(limit + LIMIT, program.output()).await??;
    if !output.status.success() {
        return Err(format!("the attackers ended: {}", output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes down what attackers know: the nodes, and what was recorded.
fn write_knowledge(folder: &Path, cluster: &Cluster) -> Result<(), Failure> {
    let mut lines = String::new();
    for target in cluster.targets() {
        let (node, incarnation) = (&target.member.node, target.member.incarnation.0);
        writeln!(lines, "{node} {incarnation} {}", target.address)?;
    }
    fs::write(folder.join("targets"), lines)?;
    let recordings = folder.join("recordings");
    fs::create_dir_all(&recordings)?;
    let all = cluster.recordings.all();
    if all.is_empty() {
        return Err("nothing was recorded".into());
    }
    for (n, recording) in all.iter().enumerate() {
        fs::write(recordings.join(n.to_string()), recording)?;
    }
    Ok(())
}

async fn warm_up(load: &Load) -> Result<(), Failure> {
    let begun = Instant::now();
    while load.take().asks() < 200 || begun.elapsed() < Duration::from_secs(2) {
        if begun.elapsed() > LIMIT {
            return Err("the load does not begin".into());
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Waits until the nodes have let go of the attackers' connections.
async fn cool_down(cluster: &Cluster, load: &Load) {
    let begun = Instant::now();
    let busy = || (0..NAMES.len()).any(|n| cluster.descriptors(n) > 64);
    while busy() && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(50)).await;
    }
    drop(load.take());
}
