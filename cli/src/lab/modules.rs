//! Which kernel modules to load, and in which order.
//!
//! Read out of the modules themselves (`depends=` in their `.modinfo`), so
//! neither depmod nor a `modules.dep` is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Module names use `_` where file names may use `-`.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// All modules below a folder, by name.
fn index(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, found)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some(stem) = name.strip_suffix(".ko")
        {
            found.insert(canonical(stem), path);
        }
    }
    Ok(())
}

/// The names in a module's `depends=` field.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = &module[at + key.len()..];
    let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect()
}

/// The wanted modules and all that they need, in load order. A name that is
/// not there is left out: it is built into that kernel, or not made for it.
pub(crate) fn closure(dir: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let mut all = BTreeMap::new();
    index(dir, &mut all)?;
    let mut order: Vec<PathBuf> = Vec::new();
    for name in wanted {
        visit(&canonical(name), &all, &mut order)?;
    }
    Ok(order)
}

fn visit(name: &str, all: &BTreeMap<String, PathBuf>, order: &mut Vec<PathBuf>) -> Result<()> {
    let Some(path) = all.get(name) else {
        return Ok(());
    };
    if order.contains(path) {
        return Ok(());
    }
    for other in depends(&fs::read(path)?) {
        visit(&other, all, order)?;
    }
    order.push(path.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_puts_what_is_needed_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("net")).unwrap();
        fs::write(
            dir.path().join("net/nine-p.ko"),
            b"x\0depends=base_p,other\0y",
        )
        .unwrap();
        fs::write(dir.path().join("base-p.ko"), b"x\0depends=\0y").unwrap();
        let names: Vec<String> = closure(dir.path(), &["nine-p", "absent", "base_p"])
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["base-p.ko", "nine-p.ko"]);
    }
}
