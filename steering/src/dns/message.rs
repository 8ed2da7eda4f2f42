//! A packet in, a packet out: what a query is allowed to be, and how its answer is written.
//!
//! The header, the question and the answer are hickory's. The additional section is read here: hickory takes no notice of
//! surplus bytes in a client subnet, refuses its family 0, and warns in the log of each malformed option.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncoder};
use hickory_server::zone_handler::{MessageResponseBuilder, Queries};
use spillway_model::TimestampMs;

use super::subnet::{ClientSubnet, asked_for};
use super::tally::{Outcome, Transport};
use super::zone::Zone;
use crate::SteerState;

/// Bytes of a header.
const HEADER: usize = 12;
/// A datagram that is not cut into pieces anywhere (DNS flag day 2020).
const UDP_MAX_BYTES: u16 = 1_232;
/// What everybody takes.
const UDP_MIN_BYTES: u16 = 512;
/// A query has OPT, and perhaps a signature.
const RECORDS_MAX: u16 = 4;

/// A query that could be read.
struct Query {
    header: Header,
    queries: Queries,
    opt: Option<Opt>,
}

/// EDNS of a query.
#[derive(Default)]
struct Opt {
    version: u8,
    /// Largest datagram that the other side takes.
    payload: u16,
    dnssec_ok: bool,
    subnet: Option<ClientSubnet>,
}

/// Answers `packet` into `out`, which stays empty where no answer is due.
pub(crate) fn respond(
    zone: &Zone,
    state: &SteerState,
    packet: &[u8],
    (resolver, transport): (IpAddr, Transport),
    now: TimestampMs,
    out: &mut Vec<u8>,
) -> Outcome {
    out.clear();
    let mut decoder = BinDecoder::new(packet);
    let header = match Header::read(&mut decoder) {
        // To answer an answer would never end.
        Ok(header) if packet[2] & 0x80 == 0 => header,
        _ => return Outcome::Ignored,
    };
    if header.op_code != OpCode::Query {
        bare(packet, ResponseCode::NotImp, out);
        return Outcome::NotImplemented;
    }
    // A first name can't point anywhere, and what it pointed to would be something else in the answer, where it is
    // repeated as it came.
    let written_out = question_end(packet);
    let Some(query) = written_out.and_then(|_| Query::read(header, decoder)) else {
        bare(packet, ResponseCode::FormErr, out);
        return Outcome::Malformed;
    };
    query.respond(zone, state, (resolver, transport), now, out)
}

/// Tells the sender to ask over TCP; nothing if there is no question to repeat. Never longer than what was asked.
pub(crate) fn ask_over_tcp(packet: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let is_query = packet.len() > HEADER && packet[2] & 0xf8 == 0 && packet[4..6] == [0, 1];
    let Some(end) = question_end(packet).filter(|_| is_query) else { return };
    bare(packet, ResponseCode::NoError, out);
    out[2] |= 0x02;
    out[5] = 1;
    out.extend_from_slice(&packet[HEADER..end]);
}

/// A header without anything behind it. `packet` has one.
fn bare(packet: &[u8], code: ResponseCode, out: &mut Vec<u8>) {
    // Response; operation and "recursion desired" as asked.
    out.extend_from_slice(&[packet[0], packet[1], 0x80 | packet[2] & 0x79, code.low()]);
    out.extend_from_slice(&[0; 8]);
}

/// Where the first question ends, if its name is written out.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *packet.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= packet.len()).then_some(end)
}

impl Query {
    /// One question, nothing in the answer, and at most one OPT.
    fn read(header: Header, mut decoder: BinDecoder<'_>) -> Option<Self> {
        let counts = header.counts;
        let others = counts.authorities.checked_add(counts.additionals)?;
        if counts.queries != 1 || counts.answers != 0 || others > RECORDS_MAX {
            return None;
        }
        let queries = Queries::read(&mut decoder, 1).ok()?;
        let mut opt = None;
        for record in 0..others {
            let (is_opt, read) = Opt::read(&mut decoder)?;
            if is_opt && (record < counts.authorities || opt.replace(read).is_some()) {
                return None;
            }
        }
        Some(Self { header, queries, opt })
    }

    fn respond(
        self,
        zone: &Zone,
        state: &SteerState,
        (resolver, transport): (IpAddr, Transport),
        now: TimestampMs,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let mut metadata = Metadata::response_from_request(&self.header.metadata);
        let mut edns = self.opt.as_ref().map(|opt| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX_BYTES).set_dnssec_ok(opt.dnssec_ok);
            edns
        });
        let max_bytes = match (transport, &self.opt) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => UDP_MIN_BYTES,
            (Transport::Udp, Some(opt)) => opt.payload.clamp(UDP_MIN_BYTES, UDP_MAX_BYTES),
        };
        if self.opt.as_ref().is_some_and(|opt| opt.version > 0) {
            metadata.response_code = ResponseCode::BADVERS;
            let sections = Sections::default();
            return self.write(metadata, &sections, edns.as_ref(), max_bytes, Outcome::BadVersion, out);
        }
        let asked = self.opt.and_then(|opt| opt.subnet);
        let (subnet, scope) = asked_for(&state.deployed.now(), asked.as_ref(), resolver);
        let reply = zone.answer(state, &self.queries.queries()[0], &subnet, now);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.is_authoritative();
        if let (Some(edns), Some(asked)) = (&mut edns, asked) {
            // Only what is steered depends on the subnet, and that no address of a type is there does too.
            let tailored = matches!(reply.outcome, Outcome::Steered | Outcome::NoData);
            let data = asked.answered(if tailored { scope } else { 0 });
            edns.options_mut().insert(EdnsOption::Unknown(EdnsCode::Subnet.into(), data));
        }
        let sections = Sections { answers: &reply.answers, authority: &reply.authority, additional: &reply.additional };
        Self { opt: None, ..self }.write(metadata, &sections, edns.as_ref(), max_bytes, reply.outcome, out)
    }

    /// Writes an answer; one that is too large leaves everything out and says so.
    fn write(
        &self,
        metadata: Metadata,
        sections: &Sections<'_>,
        edns: Option<&Edns>,
        max_bytes: u16,
        outcome: Outcome,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let mut attempt = |metadata: Metadata, sections: &Sections<'_>| {
            out.clear();
            let mut encoder = BinEncoder::new(out);
            encoder.set_max_size(max_bytes);
            let builder = MessageResponseBuilder::new(&self.queries, edns);
            let none: &[Record] = &[];
            builder
                .build(metadata, sections.answers, sections.authority, none, sections.additional)
                .destructive_emit(&mut encoder)
                .map(|written| written.truncation)
        };
        match attempt(metadata, sections) {
            Ok(false) => outcome,
            // What does not fit, or what can't be written: the one is mended by TCP, the other by nothing.
            Ok(true) | Err(_) => {
                let mut metadata = metadata;
                metadata.truncation = true;
                if attempt(metadata, &Sections::default()).is_err() {
                    out.clear();
                }
                Outcome::Truncated
            }
        }
    }
}

/// The records of an answer.
#[derive(Default)]
struct Sections<'a> {
    answers: &'a [Record],
    authority: &'a [Record],
    additional: &'a [Record],
}

impl Opt {
    /// Reads a record, and whether it is OPT; of others nothing is kept.
    fn read(decoder: &mut BinDecoder<'_>) -> Option<(bool, Self)> {
        let name = Name::read(decoder).ok()?;
        let word = |decoder: &mut BinDecoder<'_>| Some(decoder.read_u16().ok()?.unverified());
        let (kind, payload) = (word(decoder)?, word(decoder)?);
        let (version, flags) = (word(decoder)?, word(decoder)?);
        let length = word(decoder)?;
        let mut data = decoder.read_slice(usize::from(length)).ok()?.unverified();
        if RecordType::from(kind) != RecordType::OPT {
            return Some((false, Self::default()));
        }
        let mut opt = Self { version: version as u8, payload, dnssec_ok: flags & 0x8000 != 0, subnet: None };
        while !data.is_empty() {
            let (head, rest) = data.split_at_checked(4)?;
            let length = u16::from_be_bytes([head[2], head[3]]);
            let (value, rest) = rest.split_at_checked(usize::from(length))?;
            data = rest;
            // Of a version to come nothing is known of its options.
            if u16::from_be_bytes([head[0], head[1]]) == u16::from(EdnsCode::Subnet) && opt.version == 0 {
                let read = ClientSubnet::read(value)?;
                if opt.subnet.replace(read).is_some() {
                    return None;
                }
            }
        }
        name.is_root().then_some((true, opt))
    }
}
