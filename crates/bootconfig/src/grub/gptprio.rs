//! `gptprio.next`: the partition of an A/B update that is the next to start.
//!
//! Semantics: `grub-core/commands/gptprio.c` of CoreOS' GRUB, which Flatcar and
//! Bottlerocket build upon. Bits of a GPT entry's attributes: 48 to 51 the
//! priority (0: never), 52 to 55 the tries that are left, 56 whether a system
//! there has started. Of the partitions of that type with tries left or a start,
//! the first of the highest priority is taken. GRUB then counts a try; Kexen only
//! reads disks.

use alloc::{
    format,
    string::{String, ToString},
};

use super::{
    arguments::{Arguments, Known, Takes},
    shell::{BAD_ARGUMENT, Flow, INVALID_COMMAND, Shell, UNKNOWN_DEVICE},
};
use crate::{
    entry::Menu,
    volumes::{TableKind, Volume},
};

/// Partition types that take part: `/usr` of CoreOS and Flatcar, `/boot` of
/// Bottlerocket.
const TYPES: [&str; 2] = [
    "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6",
    "6b636168-7420-6568-2070-6c616e657421",
];
const OPTIONS: [Known; 2] = [
    Known::new(DEVICE, Some('d'), Takes::Value),
    Known::new(UUID, Some('u'), Takes::Value),
];
const DEVICE: &str = "set-device";
const UUID: &str = "set-uuid";

/// What the attributes of a partition say.
struct Turn {
    priority: u64,
    tries: u64,
    has_started: bool,
}

impl Turn {
    fn of(volume: &Volume<'_>) -> Option<Self> {
        let is_one = |kind: &&str| volume.type_guid.eq_ignore_ascii_case(kind);
        if volume.table != Some(TableKind::Gpt) || !TYPES.iter().any(is_one) {
            return None;
        }
        let bits = |first: u32, mask: u64| (volume.attributes >> first) & mask;
        let turn = Self {
            priority: bits(48, 0xf),
            tries: bits(52, 0xf),
            has_started: bits(56, 1) == 1,
        };
        (turn.priority > 0 && (turn.tries > 0 || turn.has_started)).then_some(turn)
    }
}

impl Shell<'_> {
    /// `gptprio.next -d VARIABLE -u VARIABLE [DEVICE]`
    pub(super) fn gptprio(
        &mut self,
        line: u32,
        words: &[String],
        menu: &mut Menu,
    ) -> Result<bool, Flow> {
        let steps = u32::try_from(self.volumes.len()).unwrap_or(u32::MAX);
        self.spend(menu, line, steps)?;
        let Ok(arguments) = Arguments::parse(&OPTIONS, false, words) else {
            return Ok(self.fails(BAD_ARGUMENT));
        };
        let (Some(device), Some(uuid)) = (arguments.value(DEVICE), arguments.value(UUID)) else {
            self.hint = Some(format!(
                "line {line}: gptprio.next: -d and -u must be given"
            ));
            return Ok(self.fails(INVALID_COMMAND));
        };
        let on = match arguments.words.as_slice() {
            [] => self.env.get("root"),
            [on] => on.as_str(),
            _ => return Ok(self.fails(BAD_ARGUMENT)),
        };
        let on = on.split(',').next().unwrap_or_default();
        let disk = self.volumes.disk_by_grub_name(on);
        let mut best: Option<(&Volume<'_>, Turn)> = None;
        for (_, volume) in self.volumes.iter() {
            if Some(&volume.disk) == disk
                && let Some(turn) = Turn::of(volume)
                && best
                    .as_ref()
                    .is_none_or(|(_, best)| turn.priority > best.priority)
            {
                best = Some((volume, turn));
            }
        }
        let Some((volume, turn)) = best else {
            self.hint = Some(format!(
                "line {line}: gptprio.next: no partition of ({on}) that can be read has a \
                 priority, and tries left or a start"
            ));
            return Ok(self.fails(UNKNOWN_DEVICE));
        };
        let (name, partuuid) = (
            volume
                .partition
                .map_or_else(|| on.to_string(), |number| format!("{on},gpt{number}")),
            volume.partuuid.clone(),
        );
        if turn.tries > 0 {
            let text = format!(
                "{}: its tries are not counted down ({} are left), since disks are only read: \
                 if it does not start, take the other entry",
                volume.name, turn.tries
            );
            menu.note_once(self.source(line), text);
        }
        Ok(self.assign(line, device, &name, menu) && self.assign(line, uuid, &partuuid, menu))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;
    use crate::{
        find::find,
        grub::{Platform, tests::boots},
        testfs::{TestFs, gpt},
        volumes::Volumes,
    };

    const A: &str = "0a3f8a10-d66d-4a3c-a0bd-8d6d6b1d0a02";
    const B: &str = "0a3f8a10-d66d-4a3c-a0bd-8d6d6b1d0a03";
    const CONFIG: &str = r#"
        set default="sys"
        set fallback="0 0 0"
        set timeout=1
        search --no-floppy --set oem --part-label OEM --hint "$root"
        if [ -n "$oem" -a -f "($oem)/grub.cfg" ]; then source "($oem)/grub.cfg"; fi
        function pick {
            gptprio.next -d usr_device -u usr_uuid
            if [ $? -ne 0 -o -z "$usr_uuid" ]; then exit; fi
            if [ "$usr_uuid" = "0a3f8a10-d66d-4a3c-a0bd-8d6d6b1d0a02" ]; then
                set kernel="/flatcar/vmlinuz-a"
            else
                set kernel="/flatcar/vmlinuz-b"
            fi
        }
        menuentry "Default" --id=sys --unrestricted {
            pick
            linux $kernel usr=PARTUUID=$usr_uuid at=$usr_device $console
        }
        menuentry "USR-A" --id=sys-a { linux /flatcar/vmlinuz-a usr=PARTLABEL=USR-A }
    "#;

    /// Flatcar's disk: ESP, `/usr` twice with these attributes, OEM.
    fn disk(a: u64, b: u64) -> Volumes<'static> {
        let usr =
            |label, attributes| TestFs::new("btrfs", "", "").on(TYPES[0], label, attributes << 48);
        gpt(vec![
            TestFs::new("vfat", "EFI-SYSTEM", "1234-ABCD")
                .file("/flatcar/grub/grub.cfg", CONFIG)
                .files(&["/flatcar/vmlinuz-a", "/flatcar/vmlinuz-b"]),
            usr("USR-A", a),
            usr("USR-B", b),
            TestFs::new("btrfs", "", "")
                .on("", "OEM", 0)
                .file("/grub.cfg", "set console=console=hvc0"),
        ])
    }

    #[test]
    fn the_partition_of_the_highest_priority_that_may_start_is_next() {
        // Priority, tries << 4, started << 8.
        for (a, b, uuid, counts) in [
            (0x101, 0x000, A, false),
            (0x101, 0x012, B, true),
            (0x101, 0x002, A, false),
            (0x101, 0x101, A, false),
            (0x101, 0x10f, B, false),
            (0x111, 0x100, A, true),
        ] {
            let volumes = disk(a, b);
            let found = find(&volumes, Platform::Pvh);
            let menu = &found.menu;
            let default = &menu.entries[menu.default.unwrap()];
            let letter = if uuid == A { 'a' } else { 'b' };
            let number = if uuid == A { 2 } else { 3 };
            let kernel = format!("0:/flatcar/vmlinuz-{letter}");
            let line = format!("usr=PARTUUID={uuid} at=xen/xvda,gpt{number} console=hvc0");
            assert_eq!(boots(default), (kernel, vec![], line), "{a:#x} {b:#x}");
            let told = menu
                .notes
                .iter()
                .any(|note| note.text.contains("are not counted down"));
            assert_eq!(told, counts, "{:?}", menu.notes);
        }
    }

    #[test]
    fn without_a_partition_that_may_start_the_entry_says_so() {
        for (a, b) in [(0, 0), (0x100, 0x000), (0x00f, 0x001)] {
            let found = find(&disk(a, b), Platform::Pvh);
            let problem = found.menu.entries[0].bootable().unwrap_err().unwrap();
            assert!(problem.what.contains("take another entry"), "{problem:?}");
            assert!(found.menu.entries[1].bootable().is_ok());
        }
    }
}
