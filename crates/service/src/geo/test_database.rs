//! Writes small databases in MaxMind's format (its specification, version 2.0) for tests.

use std::net::IpAddr;

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Number(u32),
    Small(u16),
    Large(u64),
    EmptyList,
    Map(Vec<(String, Value)>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                let length = u8::try_from(text.len()).expect("short");
                // Lengths from 29 on have a byte of their own.
                if length < 29 {
                    out.push(2 << 5 | length)
                } else {
                    out.extend([2 << 5 | 29, length - 29])
                }
                out.extend(text.as_bytes());
            }
            Self::Number(number) => {
                out.push(6 << 5 | 4);
                out.extend(number.to_be_bytes());
            }
            Self::Small(number) => {
                out.push(5 << 5 | 2);
                out.extend(number.to_be_bytes());
            }
            Self::Large(number) => {
                // Types from 8 on have a byte of their own, less 7.
                out.extend([8, 9 - 7]);
                out.extend(number.to_be_bytes());
            }
            Self::EmptyList => out.extend([0, 11 - 7]),
            Self::Map(entries) => {
                out.push(7 << 5 | u8::try_from(entries.len()).expect("few"));
                for (key, value) in entries {
                    Self::text(key).write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// Empty, a node, or an offset of data.
#[derive(Clone, Copy)]
enum Branch {
    Empty,
    Node(usize),
    Data(usize),
}

/// A database of addresses of both families.
pub(crate) fn database(entries: &[(String, Value)]) -> Vec<u8> {
    let (mut nodes, mut data) = (vec![[Branch::Empty; 2]], Vec::new());
    for (prefix, value) in entries {
        let (address, length) = prefix.split_once('/').expect("a prefix");
        let length: u32 = length.parse().expect("a length");
        let (bits, length) = match address.parse().expect("an address") {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), length + 96),
            IpAddr::V6(v6) => (v6.to_bits(), length),
        };
        let mut at = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[at][side] = Branch::Data(data.len());
            } else if let Branch::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([Branch::Empty; 2]);
                nodes[at][side] = Branch::Node(nodes.len() - 1);
                at = nodes.len() - 1;
            }
        }
        value.write(&mut data);
    }
    let mut out = Vec::new();
    for branch in nodes.iter().flatten() {
        let number = match branch {
            Branch::Empty => nodes.len(),
            Branch::Node(node) => *node,
            Branch::Data(offset) => nodes.len() + 16 + offset,
        };
        out.extend(u32::try_from(number).expect("small").to_be_bytes());
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    Value::map([
        ("binary_format_major_version", Value::Small(2)),
        ("binary_format_minor_version", Value::Small(0)),
        ("build_epoch", Value::Large(1_767_225_600)),
        ("database_type", Value::text("Test")),
        ("description", Value::map([("en", Value::text("test"))])),
        ("ip_version", Value::Small(6)),
        ("languages", Value::EmptyList),
        ("node_count", Value::Number(u32::try_from(nodes.len()).expect("small"))),
        ("record_size", Value::Small(32)),
    ])
    .write(&mut out);
    out
}
