//! A memory test: it runs in a guest's test userspace and shows that nearly
//! all memory that the guest calls free keeps what is written to it.
//!
//! Every word gets a pattern of its own, so that two addresses of one word
//! are noticed, then that pattern's complement. Each is read back twice with
//! a pause between: somebody else's writes have time to land. Of much memory eight
//! words of each page are taken. The lines are those of the test userspace,
//! `kexen-lab: KEY=VALUE`.

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use memmap2::MmapOptions;

/// What is left to everybody else, in KiB.
const MARGIN: u64 = 24 << 10;

/// Between the two times of reading.
const PAUSE: Duration = Duration::from_millis(500);

/// More KiB than these are much.
const MUCH: u64 = 4 << 20;

/// Words from one that is taken of much memory to the next: 512 bytes.
const STEP: usize = 64;

/// What is written at a time.
type Word = [u8; 8];

/// A word's pattern: no two words have the same.
fn pattern(index: usize, flip: u64) -> Word {
    let number = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ flip;
    number.to_ne_bytes()
}

/// How many of every `step`th word are not as they should be; `first` is the
/// index of the first word.
fn errors(words: &[Word], first: usize, step: usize, flip: u64) -> usize {
    let indexes = (first..).step_by(step);
    let words = words.iter().step_by(step);
    words
        .zip(indexes)
        .filter(|&(&word, index)| word != pattern(index, flip))
        .count()
}

/// Tests some words: how many were not as they should be.
fn part(words: &mut [Word], first: usize, step: usize) -> usize {
    let mut wrong = 0;
    for flip in [0, u64::MAX] {
        for (word, index) in words.iter_mut().step_by(step).zip((first..).step_by(step)) {
            *word = pattern(index, flip);
        }
        // The compiler may not know that nothing happens in between.
        let words = std::hint::black_box(&*words);
        wrong += errors(words, first, step, flip);
        thread::sleep(PAUSE);
        wrong += errors(std::hint::black_box(words), first, step, flip);
    }
    wrong
}

/// `MemAvailable` of `/proc/meminfo`, in KiB.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn test() -> Result<(), Box<dyn Error>> {
    let free = available(&fs::read_to_string("/proc/meminfo")?).ok_or("no MemAvailable")?;
    let length = usize::try_from(free.saturating_sub(MARGIN) << 10)? / size_of::<Word>();
    let step = if free > MUCH { STEP } else { 1 };
    // The kernel gives all pages at once: in a PV guest each page fault is a
    // switch of page tables there and back, and two million take ten minutes.
    let bytes = length * size_of::<Word>();
    let mut memory = MmapOptions::new().len(bytes).populate().map_anon()?;
    let (words, _) = memory.as_chunks_mut();
    // A part for each processor.
    let parts = thread::available_parallelism()?.get();
    let size = length.div_ceil(parts).max(1);
    let wrong: usize = thread::scope(|scope| {
        let parts = words.chunks_mut(size).enumerate();
        let parts: Vec<_> = parts
            .map(|(number, words)| scope.spawn(move || part(words, number * size, step)))
            .collect();
        let done = parts.into_iter().map(|part| part.join());
        done.map(|wrong| wrong.unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add)
    });
    println!("kexen-lab: memory-tested={bytes}");
    println!("kexen-lab: memory-errors={wrong}");
    Ok(())
}

fn main() -> ExitCode {
    match test() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("kexen-lab: memory-problem={error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_is_an_error() {
        let mut words: Vec<Word> = (0..100).map(|index| pattern(index, 0)).collect();
        assert_eq!(errors(&words, 0, 1, 0), 0);
        words[50][5] ^= 1;
        words.swap(3, 4);
        words[STEP][0] ^= 1;
        assert_eq!(errors(&words, 0, 1, 0), 4);
        assert_eq!(errors(&words, 0, STEP, 0), 1);
        assert_eq!(errors(&words[40..], 40, 1, 0), 2);
    }

    #[test]
    fn a_part_keeps_what_is_written_to_it() {
        let mut words = vec![[0; 8]; 3 * STEP];
        assert_eq!(part(&mut words, 7, STEP), 0);
        assert_eq!(words[STEP], pattern(7 + STEP, u64::MAX));
        assert_eq!(words[1], [0; 8]);
    }

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:  9 kB\nMemAvailable:     1234 kB\n";
        assert_eq!(available(text), Some(1234));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }
}
