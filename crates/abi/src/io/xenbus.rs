//! States of the two ends of a device (`public/io/xenbus.h`).

/// `enum xenbus_state`. An open set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct XenbusState(pub u32);

macro_rules! states {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl XenbusState {
            $(#[doc = concat!("`XenbusState", $text, "`")] pub const $name: Self = Self($number);)*
            /// Xen's name for it, if it has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

states! {
    UNKNOWN = 0, "Unknown";
    INITIALISING = 1, "Initialising";
    INIT_WAIT = 2, "InitWait";
    INITIALISED = 3, "Initialised";
    CONNECTED = 4, "Connected";
    CLOSING = 5, "Closing";
    CLOSED = 6, "Closed";
    RECONFIGURING = 7, "Reconfiguring";
    RECONFIGURED = 8, "Reconfigured";
}

impl core::fmt::Display for XenbusState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "state {}", self.0),
        }
    }
}

impl core::fmt::Debug for XenbusState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
