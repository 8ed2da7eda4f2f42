//! `STABLE-VARIANT-ID` and `STABLE-RENDITION-ID`, made where the origin has none.

use std::collections::BTreeMap;

use spillway_routing::hash_pair;

use crate::playlists::hls::parse::{Item, Playlist, Uri};
use crate::playlists::space::Place;

/// An id for each item that lacks one and has a URI, by the item's index.
#[derive(Default)]
pub(crate) struct StableIds(Vec<Option<String>>);

impl StableIds {
    /// The same on every pathway and at every download: the path without its query (which may be a signature), or its
    /// hash. Different URIs of one path count up in their order.
    pub(crate) fn of(playlist: &Playlist<'_>) -> Self {
        let (mut variants, mut renditions) = (Named::default(), Named::default());
        let mut id = |item| {
            if let Some((tag, uri)) = Item::variant(item) {
                return tag.string("STABLE-VARIANT-ID").is_none().then(|| variants.id(uri));
            }
            let Item::Media { tag, uri: Some(uri) } = item else { return None };
            tag.string("STABLE-RENDITION-ID").is_none().then(|| renditions.id(uri))
        };
        Self(playlist.items.iter().map(&mut id).collect())
    }

    pub(crate) fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index)?.as_deref()
    }
}

/// The URIs of each name: the first, and with their numbers those after it.
#[derive(Default)]
struct Named<'a>(BTreeMap<String, (&'a str, BTreeMap<&'a str, usize>)>);

impl<'a> Named<'a> {
    fn id(&mut self, uri: &'a Uri<'_>) -> String {
        let mut id = name(uri);
        match self.0.get_mut(&id) {
            None => drop(self.0.insert(id.clone(), (&uri.full, BTreeMap::new()))),
            Some((first, _)) if *first == uri.full => {}
            Some((_, others)) => {
                let next = others.len() + 2;
                let number = *others.entry(&uri.full).or_insert(next);
                id.push_str(&format!("={number}"));
            }
        }
        id
    }
}

fn name(uri: &Uri<'_>) -> String {
    let path = match &uri.place {
        Place::OnOrigin(path) => path,
        _ => &*uri.full,
    };
    let name = path.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+/=._-".contains(&b);
    if !name.is_empty() && name.bytes().all(plain) {
        name.to_owned()
    } else {
        format!("{:08x}", hash_pair(name, "stable-variant"))
    }
}
