//! gzip (RFC 1952): header, deflate straight into the output, CRC-32, size.

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress,
        inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF as WHOLE,
    },
};

use super::{Done, Input, Outcome, Problem, crc32};

pub(super) fn decode(bytes: &[u8], out: &mut [u8]) -> Outcome {
    let mut input = Input::new(bytes);
    header(&mut input)?;
    let mut state = alloc::boxed::Box::<DecompressorOxide>::default();
    let (status, read, written) = decompress(&mut state, input.rest(), out, 0, WHOLE);
    let at = input.at().saturating_add(read);
    match status {
        TINFLStatus::Done => {
            input.take(read)?;
            trailer(&mut input, out.get(..written).unwrap_or_default())?;
            Ok(Done {
                written,
                ended: true,
                read: input.at(),
            })
        }
        TINFLStatus::HasMoreOutput => Ok(Done {
            written,
            ended: false,
            read: 0,
        }),
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
            Err(Problem::Truncated { len: bytes.len() })
        }
        _ => Err(Problem::Corrupt {
            what: "not a deflate stream",
            at: Some(at),
        }),
    }
}

fn header(input: &mut Input<'_>) -> Result<(), Problem> {
    let [_, _, method, flags, ..] = input.array::<10>()?;
    if method != 8 {
        return Err(input.corrupt("the method is not deflate"));
    }
    if flags & 0xe0 != 0 {
        return Err(input.corrupt("reserved header flags are set"));
    }
    if flags & 4 != 0 {
        let len = u16::from_le_bytes(input.array()?);
        input.take(len.into())?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            while input.array()? != [0] {}
        }
    }
    if flags & 2 != 0 {
        input.take(2)?;
    }
    Ok(())
}

fn trailer(input: &mut Input<'_>, out: &[u8]) -> Result<(), Problem> {
    let want = u32::from_le_bytes(input.array()?);
    let have = crc32::ieee(out);
    if want != have {
        return Err(Problem::Checksum {
            what: "the CRC-32",
            want,
            have,
        });
    }
    let size = u32::from_le_bytes(input.array()?);
    if u64::from(size) != u64::try_from(out.len()).unwrap_or(0) & 0xffff_ffff {
        return Err(input.corrupt("the size in the trailer is another one"));
    }
    Ok(())
}
