//! Unified kernel images and add-ons: PE files of a header and sections.

/// A file with these sections, in this order.
pub(super) fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const FILE_ALIGNMENT: usize = 512;
    let mut out = vec![0; 0x40];
    out[..2].copy_from_slice(b"MZ");
    out[0x3c] = 0x40;
    out.extend(b"PE\0\0");
    out.extend(0x8664_u16.to_le_bytes());
    out.extend(u16::try_from(sections.len()).unwrap_or(0).to_le_bytes());
    out.extend([0; 12]);
    out.extend(240_u16.to_le_bytes());
    out.extend(0x22_u16.to_le_bytes());
    let mut optional = vec![0; 240];
    optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
    optional[32..36].copy_from_slice(&4096_u32.to_le_bytes());
    optional[36..40].copy_from_slice(&512_u32.to_le_bytes());
    // An EFI application.
    optional[68] = 10;
    optional[108] = 16;
    out.extend(optional);
    let round = |bytes: usize| bytes.next_multiple_of(FILE_ALIGNMENT);
    let number = |bytes: usize| u32::try_from(bytes).unwrap_or(0).to_le_bytes();
    let mut at = round(out.len() + 40 * sections.len());
    let mut address = 4096;
    for (name, data) in sections {
        let mut field = [0; 8];
        field[..name.len()].copy_from_slice(name.as_bytes());
        out.extend(field);
        out.extend(number(data.len()));
        out.extend(number(address));
        out.extend(number(round(data.len())));
        out.extend(number(at));
        out.extend([0; 16]);
        at += round(data.len());
        address += data.len().next_multiple_of(4096).max(4096);
    }
    for (_, data) in sections {
        out.resize(round(out.len()), 0);
        out.extend(*data);
    }
    out.resize(round(out.len()), 0);
    out
}
