//! `dd_sketch`, `dd_merge`, `dd_quantile`, `dd_count`.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BinaryArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::AccumulatorFactoryFunction;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, ColumnarValue, ScalarUDF, Signature, SimpleAggregateUDF, SimpleScalarUDF, TypeSignature,
    Volatility,
};

use super::sketch::{NotASketch, Sketch, read};

fn failed(error: NotASketch) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[derive(Debug, Default)]
struct Values(Sketch);

#[derive(Debug, Default)]
struct Sketches(Sketch);

/// Bytes, however the engine prefers to hold them.
fn bytes(column: &ArrayRef) -> Result<BinaryArray> {
    Ok(arrow::compute::cast(column, &DataType::Binary)?.as_binary::<i32>().clone())
}

/// Functions of bytes and, behind them, `others`.
fn of_bytes(others: &[DataType]) -> Signature {
    let kinds = [DataType::Binary, DataType::BinaryView, DataType::LargeBinary];
    let exact = |kind: DataType| TypeSignature::Exact([kind].into_iter().chain(others.iter().cloned()).collect());
    Signature::one_of(kinds.map(exact).to_vec(), Volatility::Immutable)
}

fn merge_all(sketch: &mut Sketch, column: &ArrayRef) -> Result<()> {
    bytes(column)?.iter().flatten().try_for_each(|bytes| sketch.merge(bytes)).map_err(failed)
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.0.add(value, 1));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(self.0.to_bytes()))
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        merge_all(&mut self.0, &states[0])
    }
}

impl Accumulator for Sketches {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        merge_all(&mut self.0, &values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(self.0.to_bytes()))
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        merge_all(&mut self.0, &states[0])
    }
}

fn aggregate<A: Accumulator + Default + 'static>(name: &str, input: Signature) -> AggregateUDF {
    let state = vec![Arc::new(Field::new("sketch", DataType::Binary, true))];
    let new: AccumulatorFactoryFunction = Arc::new(|_| Ok(Box::new(A::default())));
    SimpleAggregateUDF::new_with_signature(name, input, DataType::Binary, new, state).into()
}

/// `dd_sketch(x)`.
pub(super) fn sketch_of_values() -> AggregateUDF {
    aggregate::<Values>("dd_sketch", Signature::exact(vec![DataType::Float64], Volatility::Immutable))
}

/// `dd_merge(sketch)`.
pub(super) fn merged() -> AggregateUDF {
    aggregate::<Sketches>("dd_merge", of_bytes(&[]))
}

/// `dd_quantile(sketch, q)`.
pub(super) fn quantile() -> ScalarUDF {
    let run = |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let (sketches, quantiles) = (bytes(&arrays[0])?, arrays[1].as_primitive::<Float64Type>());
        let mut out = Vec::with_capacity(sketches.len());
        for (bytes, q) in sketches.iter().zip(quantiles.iter()) {
            let (Some(bytes), Some(q)) = (bytes, q) else {
                out.push(None);
                continue;
            };
            let value = read(bytes).map_err(failed)?.quantile(q).map_err(|_| {
                DataFusionError::Execution(format!("dd_quantile: quantile {q} is not valid (valid: 0 to 1)"))
            })?;
            out.push(value);
        }
        Ok(ColumnarValue::Array(Arc::new(Float64Array::from(out))))
    };
    let input = of_bytes(&[DataType::Float64]);
    SimpleScalarUDF::new_with_signature("dd_quantile", input, DataType::Float64, Arc::new(run)).into()
}

/// `dd_count(sketch)`.
pub(super) fn count() -> ScalarUDF {
    let run = |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let sketches = bytes(&arrays[0])?;
        let mut out = Vec::with_capacity(sketches.len());
        for bytes in sketches.iter() {
            let count = bytes.map(|bytes| read(bytes).map(|sketch| sketch.count())).transpose().map_err(failed)?;
            out.push(count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)));
        }
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(out))))
    };
    SimpleScalarUDF::new_with_signature("dd_count", of_bytes(&[]), DataType::Int64, Arc::new(run)).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value, 1));
        sketch
    }

    fn union(parts: &[&Sketch]) -> Sketch {
        let mut all = Sketch::default();
        for bytes in parts.iter().filter_map(|part| part.to_bytes()) {
            all.merge(&bytes).expect("merge");
        }
        all
    }

    fn quantiles(sketch: &Sketch) -> Vec<Option<f64>> {
        let Some(bytes) = sketch.to_bytes() else { return vec![] };
        let sketch = read(&bytes).expect("sketch");
        (0_u32..=20).map(|step| sketch.quantile(f64::from(step) / 20.0).expect("quantile")).collect()
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_commutative(
            a in prop::collection::vec(0.0..1e7_f64, 0..200),
            b in prop::collection::vec(0.0..1e7_f64, 0..200),
            c in prop::collection::vec(0.0..1e7_f64, 0..5),
        ) {
            let (a, b, c) = (sketch(&a), sketch(&b), sketch(&c));
            let left = union(&[&union(&[&a, &b]), &c]);
            let right = union(&[&a, &union(&[&b, &c])]);
            prop_assert_eq!(quantiles(&left), quantiles(&right));
            prop_assert_eq!(quantiles(&left), quantiles(&union(&[&c, &b, &a])));
        }

        #[test]
        fn a_quantile_is_within_one_percent(mut values in prop::collection::vec(1.0..1e6_f64, 1..500)) {
            let found = quantiles(&sketch(&values));
            values.sort_by(f64::total_cmp);
            for (step, found) in found.into_iter().enumerate() {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the sketch's own rank")]
                let rank = (step as f64 / 20.0 * (values.len() as f64 - 1.0)) as usize;
                let (found, exact) = (found.expect("value"), values[rank]);
                prop_assert!((found - exact).abs() <= exact * 0.01 + 1e-9, "{found} for {exact}");
            }
        }
    }

    #[test]
    fn bytes_with_bins_that_no_sketch_has_are_refused() {
        // Positive bins 0 and 2^31 - 1, as deltas without counts.
        let bytes = [9, 2, 0, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F];
        assert!(read(&bytes).is_err());
    }

    #[test]
    fn what_is_no_number_is_no_value_and_an_empty_sketch_is_null() {
        let mut empty = sketch(&[f64::NAN, f64::INFINITY]);
        assert!(empty.is_empty() && empty.to_bytes().is_none());
        assert!(empty.merge(b"not a sketch").is_err());
        empty.add(0.0, 3);
        assert_eq!(quantiles(&empty)[10], Some(0.0));
    }
}
