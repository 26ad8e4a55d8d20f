//! Every input of the corpora, and every one that a fuzzer has found, again.

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kexen_fuzz::TARGETS;

/// What one input may take here, in a build that is not optimised.
const LONG: Duration = Duration::from_secs(10);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files of a folder, by name.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(which: &str) -> (usize, Vec<String>) {
    let (mut count, mut failed) = (0, Vec::new());
    for (name, target) in TARGETS {
        for path in inputs(&folder(which).join(name)) {
            let data = fs::read(&path).unwrap();
            let begin = Instant::now();
            let result = catch_unwind(|| target(&data));
            count += 1;
            if result.is_err() || begin.elapsed() > LONG {
                let seconds = begin.elapsed().as_secs_f32();
                failed.push(format!("{}: {seconds:.1} s", path.display()));
            }
        }
    }
    (count, failed)
}

#[test]
fn corpora_are_replayed() {
    let (count, failed) = replay("corpus");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(count >= TARGETS.len());
}

#[test]
fn what_was_found_is_replayed() {
    let (_, failed) = replay("found");
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn each_target_has_a_corpus() {
    for (name, _) in TARGETS {
        let corpus = inputs(&folder("corpus").join(name));
        assert!(!corpus.is_empty(), "no corpus for {name}");
    }
}

#[test]
fn each_corpus_has_a_target() {
    for which in ["corpus", "found"] {
        for path in inputs(&folder(which)) {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(TARGETS.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}

#[test]
fn fuzzers_run_the_same_targets() {
    let manifest = fs::read_to_string(folder("libfuzzer/Cargo.toml")).unwrap();
    let bins: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .skip(1)
        .collect();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(bins, names);
}
