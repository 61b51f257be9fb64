//! Reads fields off the front of a slice; `None` where too few bytes are left.

/// Takes `length` bytes.
pub(crate) fn bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

/// Takes an array.
pub(crate) fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    bytes(rest, N)?.try_into().ok()
}

/// Takes one byte.
pub(crate) fn u8(rest: &mut &[u8]) -> Option<u8> {
    array(rest).map(u8::from_be_bytes)
}

/// Takes a big-endian number of two bytes.
pub(crate) fn u16(rest: &mut &[u8]) -> Option<u16> {
    array(rest).map(u16::from_be_bytes)
}

/// Takes a big-endian number of four bytes.
pub(crate) fn u32(rest: &mut &[u8]) -> Option<u32> {
    array(rest).map(u32::from_be_bytes)
}

/// Takes a big-endian number of eight bytes.
pub(crate) fn u64(rest: &mut &[u8]) -> Option<u64> {
    array(rest).map(u64::from_be_bytes)
}

/// Takes four bytes of length and then that many bytes.
pub(crate) fn prefixed<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32(rest)?).ok()?;
    bytes(rest, length)
}

/// Puts four bytes of length and then the bytes.
pub(crate) fn put_prefixed(out: &mut Vec<u8>, field: &[u8]) {
    let length = u32::try_from(field.len()).expect("every field is far shorter than 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
}
