//! Configurations for the tests, written for them: each asks for what the
//! scripts of a distribution ask for, in words of its own. What distributions
//! really install is booted in the lab.

/// One kernel on top, all of them in a submenu; the environment block says
/// what is next; functions for the screen; a disk that is searched for.
pub(super) const SUBMENU: &str = r#"
# a comment
if [ -s $prefix/grubenv ]; then
    load_env
fi
if [ "$next_entry" ]; then
    default="$next_entry"
    set next_entry=
    save_env next_entry
    once=yes
else
    set default="0"
fi
id_word=""
if [ "x$feature_menuentry_id" = "xy" ]; then id_word="--id"; fi
export id_word

function screen {
    if [ "x$feature_all_video_module" = xy ]; then
        insmod all_video
    else
        insmod vga; insmod vbe
    fi
}
if loadfont unicode; then
    set gfxmode=auto
    screen
    insmod gfxterm
fi
terminal_output gfxterm
if [ "$failed_before" = 1 ]; then set timeout=30; else set timeout_style=menu timeout=5; fi
if [ "x$feature_timeout_style" = xy ]; then set timeout_style=menu; set timeout=5; fi

menuentry 'A system' --class os --class linux $id_word 'top-3f2a' {
    screen
    insmod gzio
    if [ "$grub_platform" = xen ]; then insmod xzio; insmod lzopio; fi
    set root='hd0,gpt1'
    search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1 3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11
    echo    'One moment ...'
    linux   /boot/vmlinuz-2 root=/dev/xvda1 ro  quiet
    initrd  /boot/initrd-2
}
submenu 'More of it' $id_word 'more-3f2a' {
    menuentry 'A system, 2' $id_word 'two-3f2a' {
        search --fs-uuid --set=root 3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11
        linux /boot/vmlinuz-2 root=/dev/xvda1 ro quiet
        initrd /boot/initrd-2
    }
    menuentry 'A system, 2, for repairs' $id_word 'repair-3f2a' {
        search --fs-uuid --set=root 3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11
        linux /boot/vmlinuz-2 root=/dev/xvda1 ro single 
        initrd /boot/initrd-2
    }
    menuentry 'A system, 1' $id_word 'one-3f2a' {
        search --fs-uuid --set=root 3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11
        linux /boot/vmlinuz-1 root=/dev/xvda1 ro quiet
        initrd /boot/initrd-1
    }
    menuentry 'A system, 1, for repairs' $id_word 'old-3f2a' {
        search --fs-uuid --set=root 3f2a9c51-7d0e-4b7a-9c63-0d5f6d1b1e11
        linux /boot/vmlinuz-1 root=/dev/xvda1 ro single
        initrd /boot/initrd-1
    }
}
"#;

/// The last choice is kept; a serial terminal; quotes in a command line; a
/// hypervisor beside the kernel.
pub(super) const HYPERVISOR: &str = r#"
if [ -s $prefix/grubenv ]; then load_env; fi
set default="${saved_entry}"
function keep_choice { if [ -z "$once" ]; then saved_entry="${chosen}"; save_env saved_entry; fi; }
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout_style=hidden
set timeout=5
menuentry 'A system, 2' --id 'two' {
    keep_choice
    linux /boot/vmlinuz-2 root=/dev/xvda1 ro console=hvc0 dyndbg=\"file x +p\" quiet
    initrd /boot/initrd-2
}
menuentry 'A system, 1' --id 'one' {
    keep_choice
    linux /boot/vmlinuz-1 root=/dev/xvda1 ro console=hvc0 dyndbg=\"file x +p\" quiet
    initrd /boot/initrd-1
}
menuentry 'A hypervisor and a system' --id 'xen-two' {
    keep_choice
    if [ "$grub_platform" = "pc" -o "$grub_platform" = "" ]; then
        more=
    else
        more="no-real-mode"
    fi
    xen_hypervisor /boot/xen.gz placeholder ${more}
    xen_module /boot/vmlinuz-2 placeholder root=/dev/xvda1
    xen_module --nounzip /boot/initrd-2
}
menuentry 'A hypervisor and a system, for repairs' --id 'xen-repair' {
    xen_hypervisor /boot/xen.gz placeholder
    xen_module /boot/vmlinuz-2 placeholder root=/dev/xvda1 single
}
"#;

/// A cloud's image: no initrd at first, one when that has failed; a function
/// with an argument; an entry for the firmware.
pub(super) const CLOUD: &str = r#"
if [ -s $prefix/grubenv ]; then set have_env=true; load_env; fi
function first_fails {
    if [ -n "${have_env}" ]; then if [ -n "${partuuid}" ]; then
        initrdless_failed=1
        save_env initrdless_failed
    fi; fi
}
function mode {
    set gfxpayload="${1}"
    if [ "${1}" = "keep" ]; then set handoff=vt.handoff=7; else set handoff=; fi
}
if [ "${failed_before}" != 1 ]; then
    if [ -e ${prefix}/no-graphics ]; then
        if hwmatch ${prefix}/no-graphics 3; then set screen=text; fi
    else
        set screen=keep
    fi
fi
if [ x$feature_timeout_style = xy ]; then
    set timeout_style=hidden
    set timeout=0
elif sleep --interruptible 0; then
    set timeout=0
fi
set partuuid=0a3f8a10-d66d-4a3c-a0bd-8d6d6b1d0a01
menuentry 'A cloud' --id 'cloud' {
    mode $screen
    search --no-floppy --fs-uuid --set=root 5b8a
    if [ "${initrdless_failed}" = 1 ]; then
        linux /boot/vmlinuz root=PARTUUID=${partuuid} ro console=tty1 console=ttyS0
        initrd /boot/initrd
    else
        linux /boot/vmlinuz root=PARTUUID=${partuuid} ro console=tty1 console=ttyS0 $handoff panic=-1
    fi
    first_fails
}
submenu 'More of it' {
    menuentry 'A cloud, with its initrd' {
        search --no-floppy --fs-uuid --set=root 5b8a
        linux /boot/vmlinuz root=PARTUUID=${partuuid} ro
        initrd /boot/initrd
    }
}
menuentry 'The firmware' $id_word 'firmware' {
    fwsetup
}
"#;

/// Entries beside the script, taken in by it; a counter of boots that ran out
/// chooses another one; the menu is hidden after a boot that went well.
pub(super) const ENTRIES: &str = r#"
if [ -s $prefix/grubenv ]; then load_env; fi
set default="${saved_entry}"
set timeout_style=menu
set timeout=5
insmod increment
if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
    if [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
        set default=1
        set boot_counter=-1
    else
        decrement boot_counter
    fi
    save_env boot_counter
fi
search --no-floppy --fs-uuid --set=root 6e9d-boot
search --no-floppy --fs-uuid --set=boot 6e9d-boot
if [ -z "${kernelopts}" ]; then
    set kernelopts="root=UUID=b7f1a2c4-root ro rootflags=subvol=root rhgb quiet "
fi
insmod blscfg
blscfg
if [ "${boot_success}" = 1 ]; then set hide=1; else set hide=0; fi
set boot_success=0
save_env boot_success
if [ "${menu_auto_hide}" -a "${hide}" = "1" ]; then
    set timeout_style=hidden
    set timeout=1
fi
"#;

/// A root of snapshots: paths are those of the subvolume, a second script
/// lists the snapshots, one entry has a hypervisor.
pub(super) const SNAPSHOTS: &str = r#"
set default=0
if [ "$once" = true ]; then
    set timeout=0
elif [ x$feature_timeout_style = xy ]; then
    set timeout_style=menu
    set timeout=8
fi
insmod gfxmenu
loadfont ($root)/boot/grub2/themes/a/font.pf2
set theme=($root)/boot/grub2/themes/a/theme.txt
export theme
menuentry 'A system' --id 'top' {
    set root='hd0,gpt2'
    search --no-floppy --fs-uuid --set=root d41d
    linux /boot/vmlinuz-default root=UUID=d41d  ${extra_cmdline} splash=silent quiet
    initrd /boot/initrd-default
}
submenu 'More of it' --hotkey=1 --id 'more' {
    menuentry 'A system, for repairs' --hotkey=3 {
        search --no-floppy --fs-uuid --set=root d41d
        linux /boot/vmlinuz-default root=UUID=d41d single ${extra_cmdline}
        initrd /boot/initrd-default
    }
}
menuentry 'A hypervisor' {
    search --no-floppy --fs-uuid --set=root d41d
    multiboot2 /boot/xen.gz placeholder
    module2 /boot/vmlinuz-default placeholder root=UUID=d41d
}
if [ -f "/.snapshots/list.cfg" ]; then
    source "/.snapshots/list.cfg"
fi
if [ -f  ${config_directory}/custom.cfg ]; then
    source ${config_directory}/custom.cfg
fi
"#;
