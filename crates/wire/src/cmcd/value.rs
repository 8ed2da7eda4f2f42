//! Types of the values: how each is read out of a structured field, tolerantly, and written into one.

use sfv::{BareItem, InnerList, Item, KeyRef, ListEntry, ListSerializer, RefBareItem, StringRef};

use super::token::ObjectType;

/// A key's value.
pub(super) trait Value: Sized {
    /// The value, if the entry can be taken for one. Scalars stand for lists of one and the other way round: players
    /// label their records `v=2` and send scalars as in version 1.
    fn read(entry: &ListEntry) -> Option<Self>;
    /// As structured-field text; `None` if it has none (a number that is too large).
    fn write(&self) -> Option<String>;
}

/// A number, and for which kind of object it holds if that is said: an element of `br=(3000;v 128;a)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// The number, in the unit of its key.
    pub value: u64,
    /// For which kind of object.
    pub object: Option<ObjectType>,
}

/// An object that is about to be requested: an element of `nor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextObject {
    /// Its path, relative to the request's.
    pub path: String,
    /// `r`: byte range, such as `0-499`.
    pub range: Option<String>,
}

/// The one item of an entry.
pub(super) fn single(entry: &ListEntry) -> Option<&BareItem> {
    match items(entry) {
        [item] => Some(&item.bare_item),
        _ => None,
    }
}

fn items(entry: &ListEntry) -> &[Item] {
    match entry {
        ListEntry::Item(item) => std::slice::from_ref(item),
        ListEntry::InnerList(list) => &list.items,
    }
}

fn integer(item: &BareItem) -> Option<i64> {
    match item {
        BareItem::Integer(value) => Some(i64::from(*value)),
        // Players send averages as they are: rounded half up, as the key's integer would be.
        BareItem::Decimal(value) => Some((i64::from(value.as_integer_scaled_1000()) + 500).div_euclid(1000)),
        _ => None,
    }
}

fn text(item: &BareItem) -> Option<String> {
    match item {
        BareItem::String(text) => Some(text.as_str().to_owned()),
        BareItem::Token(token) => Some(token.as_str().to_owned()),
        BareItem::DisplayString(text) => Some(text.clone()),
        BareItem::Integer(value) => Some(value.to_string()),
        BareItem::Decimal(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Text as a string, or as a display string where it is not ASCII.
fn string(text: &str) -> RefBareItem<'_> {
    StringRef::from_str(text).map_or(RefBareItem::DisplayString(text), RefBareItem::String)
}

fn item_text(item: RefBareItem<'_>) -> String {
    sfv::ItemSerializer::new().bare_item(item).finish()
}

/// An entry as structured-field text.
pub(super) fn entry_text(entry: &ListEntry) -> Option<String> {
    let mut out = ListSerializer::new();
    out.members([entry]);
    out.finish()
}

impl Value for u64 {
    fn read(entry: &ListEntry) -> Option<Self> {
        u64::try_from(integer(single(entry)?)?).ok()
    }

    fn write(&self) -> Option<String> {
        sfv::Integer::try_from(*self).ok().map(|value| value.to_string())
    }
}

impl Value for i64 {
    fn read(entry: &ListEntry) -> Option<Self> {
        integer(single(entry)?)
    }

    fn write(&self) -> Option<String> {
        sfv::Integer::try_from(*self).ok().map(|value| value.to_string())
    }
}

impl Value for f64 {
    fn read(entry: &ListEntry) -> Option<Self> {
        let value = match single(entry)? {
            BareItem::Integer(value) => i64::from(*value) as f64,
            BareItem::Decimal(value) => i64::from(value.as_integer_scaled_1000()) as f64 / 1000.0,
            _ => return None,
        };
        // What could not be written is no rate.
        sfv::Decimal::try_from(value).ok().map(|_| value)
    }

    fn write(&self) -> Option<String> {
        sfv::Decimal::try_from(*self).ok().map(|value| value.to_string())
    }
}

impl Value for bool {
    fn read(entry: &ListEntry) -> Option<Self> {
        match single(entry)? {
            BareItem::Boolean(value) => Some(*value),
            BareItem::Token(token) => token.as_str().parse().ok(),
            BareItem::Integer(value) => match i64::from(*value) {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
            _ => None,
        }
    }

    fn write(&self) -> Option<String> {
        Some(if *self { "?1" } else { "?0" }.to_owned())
    }
}

impl Value for String {
    fn read(entry: &ListEntry) -> Option<Self> {
        text(single(entry)?)
    }

    fn write(&self) -> Option<String> {
        Some(item_text(string(self)))
    }
}

impl Value for Vec<String> {
    fn read(entry: &ListEntry) -> Option<Self> {
        items(entry).iter().map(|item| text(&item.bare_item)).collect()
    }

    fn write(&self) -> Option<String> {
        let mut out = ListSerializer::new();
        let mut list = out.inner_list();
        for text in self {
            list.bare_item(string(text));
        }
        let _ = list.finish();
        out.finish()
    }
}

impl Value for Vec<Measure> {
    fn read(entry: &ListEntry) -> Option<Self> {
        let measure = |item: &Item| {
            let value = u64::try_from(integer(&item.bare_item)?).ok()?;
            let named = item.params.iter().filter(|(_, value)| !matches!(value, BareItem::Boolean(false)));
            Some(Measure { value, object: named.filter_map(|(key, _)| ObjectType::of(key.as_str())).next() })
        };
        items(entry).iter().map(measure).collect()
    }

    fn write(&self) -> Option<String> {
        let item = |measure: &Measure| {
            let mut item = Item::new(sfv::Integer::try_from(measure.value).ok()?);
            if let Some(object) = measure.object {
                item.params.insert(KeyRef::from_str(object.as_str()).ok()?.to_owned(), true.into());
            }
            Some(item)
        };
        let list = InnerList::new(self.iter().map(item).collect::<Option<_>>()?);
        entry_text(&ListEntry::InnerList(list))
    }
}

impl Value for Vec<NextObject> {
    fn read(entry: &ListEntry) -> Option<Self> {
        let next = |item: &Item| {
            let range = item.params.get(sfv::key_ref("r")).and_then(text);
            Some(NextObject { path: text(&item.bare_item)?, range })
        };
        items(entry).iter().map(next).collect()
    }

    fn write(&self) -> Option<String> {
        let mut out = ListSerializer::new();
        let mut list = out.inner_list();
        for next in self {
            let item = list.bare_item(string(&next.path));
            if let Some(range) = &next.range {
                let _ = item.parameter(sfv::key_ref("r"), string(range));
            }
        }
        let _ = list.finish();
        out.finish()
    }
}
