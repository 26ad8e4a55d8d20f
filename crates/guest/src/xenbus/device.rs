//! A device as the store describes it, and the states of its ends.
//!
//! The backend writes its own directory and the toolstack the links between
//! the two: that both ends name each other is checked before anything is
//! granted to the domain that is said to be the backend's.

use alloc::{format, string::String, vec::Vec};

use super::{DeviceError, Problem, XenbusState};
use crate::{
    Machine,
    xenstore::{Ask, Session, StoreError, if_present, number_of, text_of, wire::printable},
};

/// A device: both its ends, checked to be each other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    class: String,
    number: u32,
    frontend: String,
    backend: String,
    backend_id: u16,
}

/// The classes of devices that this guest has (`vbd`, `vif`, ...).
///
/// # Errors
/// The store's.
pub fn classes<M: Machine + ?Sized>(s: &mut Session<'_, M>) -> Result<Vec<String>, StoreError> {
    Ok(if_present(s.directory("device"))?.unwrap_or_default())
}

/// The numbers of the devices of a class, in order. What is no number is no
/// device.
///
/// # Errors
/// The store's.
pub fn numbers<M: Machine + ?Sized>(
    s: &mut Session<'_, M>,
    class: &str,
) -> Result<Vec<u32>, StoreError> {
    let names = if_present(s.directory(&format!("device/{class}")))?;
    let names = names.unwrap_or_default();
    let mut numbers: Vec<_> = names.iter().filter_map(|name| decimal(name)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// A number, written as one writes it.
fn decimal(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (format!("{number}") == text).then_some(number)
}

impl Device {
    /// Reads where a device's backend is, and checks that both ends say so.
    ///
    /// # Errors
    /// The store's, or which entry is not what it has to be.
    pub fn open<M: Machine + ?Sized>(
        s: &mut Session<'_, M>,
        class: &str,
        number: u32,
    ) -> Result<Self, DeviceError> {
        let frontend = format!("device/{class}/{number}");
        let store = |error| DeviceError::new(&frontend, Problem::Store(error));
        let entry = |path: String, value: &str, expected: String| {
            let problem = Problem::Entry {
                path,
                value: printable(value.as_bytes()),
                expected,
            };
            Err(DeviceError::new(&frontend, problem))
        };
        let id = format!("{frontend}/backend-id");
        let path = format!("{frontend}/backend");
        let asks = [Ask::Read("domid"), Ask::Read(&id), Ask::Read(&path)];
        let mut answers = s.together(&asks).map_err(store)?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Vec::new())).map_err(store);
        let own: u16 = number_of("domid", &next()?).map_err(store)?;
        let backend_id: u16 = number_of(&id, &next()?).map_err(store)?;
        let backend = text_of(&path, &next()?).map_err(store)?;
        // The backend's class may have another name than the frontend's:
        // qemu's of a vbd is `qdisk`.
        let root = format!("/local/domain/{backend_id}/backend/");
        let mut parts = backend.strip_prefix(&root).unwrap_or("").split('/');
        let kind = parts.next().unwrap_or("");
        if kind.is_empty() || backend != format!("{root}{kind}/{own}/{number}") {
            return entry(path, &backend, format!("{root}*/{own}/{number}"));
        }
        let path = format!("{backend}/frontend");
        let back = s.read_text(&path).map_err(store)?;
        let expected = format!("/local/domain/{own}/{frontend}");
        if back != expected {
            return entry(path, &back, expected);
        }
        Ok(Self {
            class: class.into(),
            number,
            backend,
            backend_id,
            frontend,
        })
    }

    /// `vbd`, `vif`, ...
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Its number in the class.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The frontend's directory.
    #[must_use]
    pub fn frontend(&self) -> &str {
        &self.frontend
    }

    /// The backend's directory.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// The backend's domain.
    #[must_use]
    pub const fn backend_id(&self) -> u16 {
        self.backend_id
    }

    pub(crate) fn error(&self, problem: Problem) -> DeviceError {
        DeviceError::new(&self.frontend, problem)
    }

    pub(crate) fn store(&self, error: StoreError) -> DeviceError {
        self.error(Problem::Store(error))
    }

    fn state<M: Machine + ?Sized>(
        &self,
        s: &mut Session<'_, M>,
        end: &str,
    ) -> Result<Option<XenbusState>, DeviceError> {
        let state = s.read_number(&format!("{end}/state"));
        let state = if_present(state).map_err(|error| self.store(error))?;
        Ok(state.map(XenbusState))
    }

    /// The frontend's state; none if the toolstack has removed it.
    ///
    /// # Errors
    /// The store's.
    pub fn frontend_state<M: Machine + ?Sized>(
        &self,
        s: &mut Session<'_, M>,
    ) -> Result<Option<XenbusState>, DeviceError> {
        self.state(s, &self.frontend)
    }

    /// The backend's state; none if it is gone, or not for this domain to see
    /// any more, which is how the store tells of a directory that was removed.
    /// What a backend that is gone has kept is seen by its grants.
    ///
    /// # Errors
    /// The store's.
    pub fn backend_state<M: Machine + ?Sized>(
        &self,
        s: &mut Session<'_, M>,
    ) -> Result<Option<XenbusState>, DeviceError> {
        match self.state(s, &self.backend) {
            Err(DeviceError {
                problem: Problem::Store(error),
                ..
            }) if error.is_denied() => Ok(None),
            state => state,
        }
    }

    /// Sets the frontend's state, and other entries of its with it. In a
    /// transaction: what the toolstack has removed is not made again.
    ///
    /// # Errors
    /// The store's, or that the frontend was removed.
    pub fn switch_state<M: Machine + ?Sized>(
        &self,
        s: &mut Session<'_, M>,
        state: XenbusState,
        entries: &[(&str, &str)],
    ) -> Result<(), DeviceError> {
        let store = |error| self.store(error);
        let path = |name: &str| format!("{}/{name}", self.frontend);
        let (at, value) = (path("state"), format!("{}", state.0));
        let writes: Vec<_> = entries.iter().map(|(name, to)| (path(name), *to)).collect();
        s.transaction(|t| {
            let mut asks = Vec::from([Ask::Read(&at)]);
            for (path, to) in &writes {
                asks.push(Ask::Write(path, to.as_bytes()));
            }
            asks.push(Ask::Write(&at, value.as_bytes()));
            let mut answers = t.together(&asks).map_err(store)?.into_iter();
            let was = answers.next().unwrap_or(Ok(Vec::new()));
            let was = if_present(was.and_then(|was| number_of::<u32>(&at, &was)));
            if was.map_err(store)?.is_none() {
                return Err(self.error(Problem::Removed));
            }
            answers.try_for_each(|answer| answer.map(drop).map_err(store))
        })
        .map_err(|error: DeviceError| self.error(error.problem))
    }
}
