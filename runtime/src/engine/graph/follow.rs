//! The way of the values through a graph: node by node, into functions, branches and loops.
//!
//! Each value is followed once for each place where it is made. Not here: what an operator does (`table`, `rules`).

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

use crate::engine::graph::call::{self, Call};
use crate::engine::graph::obstacle::Obstacle;
use crate::engine::graph::proto::{Attribute, Function, Graph, Model, Node, Opset, ValueInfo};
use crate::engine::graph::rules::reduce;
use crate::engine::graph::size::Size;
use crate::engine::graph::table::{self, Gives, Operator, Trap, Work};
use crate::engine::graph::value::{Role, Value, declared_element, declared_shape, element};

/// Most nodes that are followed, each as often as a function or a loop has it followed.
const VISITS_MAX: usize = 300_000;
/// Deepest calls of functions, branches and loops within each other.
const DEPTH_MAX: usize = 24;

/// The facts that come to light on the way.
pub(super) struct Follow<'m> {
    model: &'m Model,
    functions: HashMap<(&'m str, &'m str), &'m Function>,
    next_unknown: Cell<u32>,
    /// Why values are [`Role::Mixed`].
    pub(super) obstacles: Vec<Obstacle>,
    /// The first obstacles to bounded work, and to there being no trap.
    pub(super) work: Option<Obstacle>,
    pub(super) trap: Option<Obstacle>,
    /// The first operator that computes as in training.
    pub(super) training: Option<Obstacle>,
    visits: usize,
}

/// Where a node stands: what names mean there.
struct Place<'m> {
    versions: &'m [Opset],
    /// Values by name, the innermost graph last.
    names: Vec<HashMap<&'m str, Value>>,
    /// The attributes of the call, where this is the body of a function.
    attributes: Option<HashMap<&'m str, Cow<'m, Attribute>>>,
    /// Numbers of the nodes around, for people.
    path: String,
    depth: usize,
}

impl Place<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        self.names.iter().rev().find_map(|names| names.get(name))
    }
}

/// ONNX's own domain has two names.
fn domain_of(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The name of a domain that people use.
pub(super) fn domain_for_people(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

impl<'m> Follow<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        let functions = model.functions.iter();
        Self {
            model,
            functions: functions
                .map(|one| ((domain_of(&one.domain), one.name.as_str()), one))
                .collect(),
            next_unknown: Cell::new(0),
            obstacles: Vec::new(),
            work: None,
            trap: None,
            training: None,
            visits: 0,
        }
    }

    /// Follows the whole model: its outputs by name.
    pub(super) fn run(&mut self, graph: &'m Graph) -> Vec<(&'m str, Value)> {
        let mut inputs = HashMap::new();
        for info in inputs_of(graph) {
            inputs.insert(info.name.as_str(), self.input(info));
        }
        let mut place = Place {
            versions: &self.model.opset_import,
            names: vec![inputs],
            attributes: None,
            path: String::new(),
            depth: 0,
        };
        let outputs = self.graph(graph, &mut place, HashMap::new());
        let names = graph.output.iter().map(|info| info.name.as_str());
        names.zip(outputs).collect()
    }

    fn input(&mut self, info: &ValueInfo) -> Value {
        let element = declared_element(info);
        let why = match declared_shape(info).as_deref() {
            Some([None, rest @ ..]) => {
                let rest = rest.iter().map(|size| match size {
                    Some(size) => Size::known(*size),
                    None => call::some(&self.next_unknown, true),
                });
                let shape = std::iter::once(Size::rows()).chain(rest).collect();
                return Value {
                    element,
                    ..Value::rows(0, shape)
                };
            }
            Some([Some(size), ..]) => format!("fixes its first axis at {size}"),
            Some([]) => "is a single number".to_owned(),
            None => "declares no shape".to_owned(),
        };
        let why = format!("input {:?} {why}", info.name);
        Value {
            element,
            ..self.mixed(Obstacle::of_model(why))
        }
    }

    fn mixed(&mut self, obstacle: Obstacle) -> Value {
        self.obstacles.push(obstacle);
        Value::mixed(self.obstacles.len() - 1)
    }

    /// Follows a graph within what is known around it: the values of its outputs.
    fn graph(
        &mut self,
        graph: &'m Graph,
        place: &mut Place<'m>,
        given: HashMap<&'m str, Value>,
    ) -> Vec<Value> {
        place.names.push(given);
        place.depth += 1;
        let constants = graph
            .initializer
            .iter()
            .map(|one| (one.name.as_str(), Value::of_tensor(one)));
        let sparse = graph.sparse_initializer.iter().filter_map(|one| {
            let values = one.values.as_ref()?;
            let shape = one.dims.iter().map(|size| Size::known(*size)).collect();
            let value = Value {
                element: values.data_type,
                ..Value::same(Some(shape))
            };
            Some((values.name.as_str(), value))
        });
        if let Some(names) = place.names.last_mut() {
            for (name, value) in constants.chain(sparse) {
                names.insert(name, value);
            }
        }
        for (number, node) in graph.node.iter().enumerate() {
            self.visit(node, number, place);
        }
        let outputs = graph.output.iter();
        let outputs = outputs
            .map(|info| self.look_up(&info.name, place))
            .collect();
        place.depth -= 1;
        place.names.pop();
        outputs
    }

    fn look_up(&mut self, name: &str, place: &Place<'m>) -> Value {
        match place.value(name) {
            Some(value) => value.clone(),
            None => self.mixed(Obstacle::of_model(format!(
                "nothing makes the value {name:?}"
            ))),
        }
    }

    /// Follows one node, and gives its outputs their names.
    fn visit(&mut self, node: &'m Node, number: usize, place: &mut Place<'m>) {
        self.visits += 1;
        let here = Here { node, number };
        let outputs = if self.visits > VISITS_MAX || place.depth > DEPTH_MAX {
            let why = "stands in a graph that is larger than the analysis follows";
            self.nothing_known(&here, place, why)
        } else {
            self.outputs(&here, place)
        };
        let mut outputs = outputs.into_iter();
        for name in &node.output {
            let value = outputs.next();
            let value = value.unwrap_or_else(|| {
                self.mixed(here.obstacle(place, "has an output that is not followed"))
            });
            if !name.is_empty()
                && let Some(names) = place.names.last_mut()
            {
                names.insert(name.as_str(), value);
            }
        }
    }

    fn outputs(&mut self, here: &Here<'m>, place: &mut Place<'m>) -> Vec<Value> {
        let node = here.node;
        let inputs: Vec<Option<Value>> = node
            .input
            .iter()
            .map(|name| (!name.is_empty()).then(|| self.look_up(name, place)))
            .collect();
        let domain = domain_of(&node.domain);
        let known = table::operator(domain, &node.op_type);
        if let Some(function) = self.functions.get(&(domain, node.op_type.as_str())) {
            return match known {
                None => self.function(here, function, inputs, place),
                // Which of the two ONNX Runtime takes is its own affair.
                Some(_) => {
                    self.nothing_known(here, place, "has the name of a function of the model")
                }
            };
        }
        match (domain, node.op_type.as_str()) {
            ("", "If") => return self.branches(here, inputs.first().cloned().flatten(), place),
            ("", "Loop") => return self.repeat(here, inputs, place),
            ("", "Scan") => return self.scan(here, inputs, place),
            _ => {}
        }
        let version = version_of(domain, place.versions);
        match (known, version) {
            (Some(operator), Some(version)) => {
                self.operator(here, (operator, version), inputs, place)
            }
            (Some(_), None) => self.nothing_known(
                here,
                place,
                "is of a version that the analysis does not know",
            ),
            (None, _) => self.nothing_known(here, place, "is not known"),
        }
    }

    /// Nothing is proven any more, because of this node.
    fn nothing_known(&mut self, here: &Here<'m>, place: &Place<'m>, why: &str) -> Vec<Value> {
        let obstacle = here.obstacle(place, why);
        self.work.get_or_insert_with(|| obstacle.clone());
        self.trap.get_or_insert_with(|| obstacle.clone());
        let value = self.mixed(obstacle);
        vec![value; here.node.output.len()]
    }

    fn operator(
        &mut self,
        here: &Here<'m>,
        (operator, version): (Operator, i64),
        inputs: Vec<Option<Value>>,
        place: &Place<'m>,
    ) -> Vec<Value> {
        let attributes = here.attributes(place);
        let call = Call::new(
            (&here.node.op_type, version),
            inputs,
            attributes,
            here.node.output.len(),
            &self.next_unknown,
        );
        let work = work_obstacle(operator.work, &call);
        let trap = trap_obstacle(operator.trap, &call);
        let trains = reduce::trains(&call) == Some(true);
        let mixed = call.inputs().find_map(|input| match input.role {
            Role::Mixed(obstacle) => Some(obstacle),
            _ => None,
        });
        let outputs = match mixed {
            Some(obstacle) => Ok(vec![Value::mixed(obstacle); call.outputs]),
            None => follow_call(operator, &call),
        };
        let of_data = call.inputs().any(|input| input.of_data);
        let gives = given_element(operator.gives, &call);
        let speaks_of_shapes = matches!(call.operator, "Shape" | "Size");
        if let Some(why) = work {
            self.work.get_or_insert_with(|| here.obstacle(place, why));
        }
        if let Some(why) = trap {
            self.trap.get_or_insert_with(|| here.obstacle(place, why));
        }
        if trains {
            let why = "is in training mode";
            self.training
                .get_or_insert_with(|| here.obstacle(place, why));
        }
        let outputs = outputs.unwrap_or_else(|why| {
            let value = self.mixed(here.obstacle(place, &why));
            vec![value; here.node.output.len()]
        });
        let finish = |value: Value| Value {
            element: gives.unwrap_or(value.element),
            of_data: of_data && !speaks_of_shapes,
            ..value
        };
        outputs.into_iter().map(finish).collect()
    }

    fn function(
        &mut self,
        here: &Here<'m>,
        function: &'m Function,
        inputs: Vec<Option<Value>>,
        place: &Place<'m>,
    ) -> Vec<Value> {
        let mut attributes: HashMap<&'m str, Cow<'m, Attribute>> = function
            .attribute_proto
            .iter()
            .map(|one| (one.name.as_str(), Cow::Borrowed(one)))
            .collect();
        for (given, resolved) in here.node.attribute.iter().zip(here.resolved(place)) {
            match resolved {
                Some(attribute) => drop(attributes.insert(&given.name, attribute)),
                None => drop(attributes.remove(given.name.as_str())),
            }
        }
        let names = function.input.iter().map(String::as_str).zip(inputs);
        let given = names
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let mut body = Place {
            versions: match function.opset_import.is_empty() {
                true => place.versions,
                false => &function.opset_import,
            },
            names: vec![given],
            attributes: Some(attributes),
            path: here.path(place),
            depth: place.depth + 1,
        };
        for (number, node) in function.node.iter().enumerate() {
            self.visit(node, number, &mut body);
        }
        let outputs = function.output.iter();
        outputs.map(|name| self.look_up(name, &body)).collect()
    }

    /// Follows the graph of an attribute; nothing where there is none.
    fn body(
        &mut self,
        here: &Here<'m>,
        name: &str,
        given: Vec<Value>,
        place: &mut Place<'m>,
    ) -> Option<Vec<Value>> {
        let attribute = here.node.attribute.iter().find(|one| one.name == name)?;
        let graph = attribute.g.as_deref()?;
        let names = graph.input.iter().map(|info| info.name.as_str());
        let given = names.zip(given).collect();
        let path = here.path(place);
        let around = std::mem::replace(&mut place.path, path);
        let outputs = self.graph(graph, place, given);
        place.path = around;
        Some(outputs)
    }

    fn branches(
        &mut self,
        here: &Here<'m>,
        condition: Option<Value>,
        place: &mut Place<'m>,
    ) -> Vec<Value> {
        let Some(condition) = condition else {
            return self.nothing_known(here, place, "lacks an input");
        };
        if condition.of_data {
            let why = "chooses by a value what it does";
            self.work.get_or_insert_with(|| here.obstacle(place, why));
        }
        let known = condition
            .numbers()
            .and_then(|numbers| numbers.first().copied());
        if let (Role::Same, Some(known)) = (condition.role, known) {
            let taken = if known == 0 {
                "else_branch"
            } else {
                "then_branch"
            };
            let outputs = self.body(here, taken, Vec::new(), place);
            return outputs.unwrap_or_else(|| self.nothing_known(here, place, "lacks a branch"));
        }
        let one = self.body(here, "then_branch", Vec::new(), place);
        let other = self.body(here, "else_branch", Vec::new(), place);
        let (Some(one), Some(other)) = (one, other) else {
            return self.nothing_known(here, place, "lacks a branch");
        };
        let obstacle = match condition.role {
            Role::Same => None,
            Role::Mixed(obstacle) => Some(obstacle),
            Role::Rows(_) | Role::Count => {
                let why = "chooses for all rows by what is said of some";
                self.obstacles.push(here.obstacle(place, why));
                Some(self.obstacles.len() - 1)
            }
        };
        one.into_iter()
            .zip(other)
            .map(|(one, other)| match obstacle {
                Some(obstacle) => Value {
                    element: one.element,
                    ..Value::mixed(obstacle)
                },
                None => self.either(here, place, one, &other),
            })
            .collect()
    }

    /// A value that is one or the other, the same one for all rows.
    fn either(&mut self, here: &Here<'m>, place: &Place<'m>, one: Value, other: &Value) -> Value {
        let element = match one.element == other.element {
            true => one.element,
            false => element::UNKNOWN,
        };
        let of_data = one.of_data || other.of_data;
        let value = match (one.role, other.role) {
            (Role::Mixed(_), _) => one,
            (_, Role::Mixed(_)) => other.clone(),
            (Role::Same, Role::Same) => Value::same(self.common(&one, other)),
            (Role::Rows(axis), Role::Rows(same)) if axis == same => {
                match self
                    .common(&one, other)
                    .filter(|shape| !shape[axis].is_fixed())
                {
                    Some(shape) => Value::rows(axis, shape),
                    None => self.mixed(here.obstacle(place, "gives different numbers of rows")),
                }
            }
            _ => self.mixed(here.obstacle(place, "gives rows, or what is the same for all")),
        };
        Value {
            element,
            of_data,
            content: None,
            ..value
        }
    }

    /// The shape that fits both; nothing where their ranks differ.
    fn common(&self, one: &Value, other: &Value) -> Option<Vec<Size>> {
        let (one, other) = (one.shape.as_ref()?, other.shape.as_ref()?);
        let size = |(one, other): (&Size, &Size)| match one == other {
            true => one.clone(),
            false => call::some(&self.next_unknown, true),
        };
        (one.len() == other.len()).then(|| one.iter().zip(other).map(size).collect())
    }

    fn repeat(
        &mut self,
        here: &Here<'m>,
        inputs: Vec<Option<Value>>,
        place: &mut Place<'m>,
    ) -> Vec<Value> {
        let mut inputs = inputs.into_iter();
        let (count, go) = (inputs.next().flatten(), inputs.next().flatten());
        if count.as_ref().is_none_or(|count| count.of_data) {
            let why = "repeats as often as values say";
            self.work.get_or_insert_with(|| here.obstacle(place, why));
        }
        let asked = [count, go].into_iter().flatten();
        for value in asked {
            if value.role != Role::Same {
                return self.values_say(here, place, value.role);
            }
        }
        let Some(states) = inputs.collect::<Option<Vec<Value>>>() else {
            return self.nothing_known(here, place, "lacks an input");
        };
        let number = |kind| Value {
            element: kind,
            ..Value::same(Some(Vec::new()))
        };
        let first = vec![number(element::INT64), number(element::BOOL)];
        let followed = self.steady(here, (first, states, Vec::new()), 1, place);
        match followed {
            Some((Some(go), _)) if go.role != Role::Same => self.values_say(here, place, go.role),
            Some((_, outputs)) => outputs,
            None => self.nothing_known(here, place, "is not followed"),
        }
    }

    /// All outputs of a loop that goes on as long as the rows say.
    fn values_say(&mut self, here: &Here<'m>, place: &mut Place<'m>, role: Role) -> Vec<Value> {
        // What the body has in it is of account for the other facts.
        drop(self.body(here, "body", Vec::new(), place));
        let value = match role {
            Role::Mixed(obstacle) => Value::mixed(obstacle),
            _ => self.mixed(here.obstacle(place, "repeats for all rows as often as some say")),
        };
        vec![value; here.node.output.len()]
    }

    fn scan(
        &mut self,
        here: &Here<'m>,
        inputs: Vec<Option<Value>>,
        place: &mut Place<'m>,
    ) -> Vec<Value> {
        let attribute = |name: &str| here.node.attribute.iter().find(|one| one.name == name);
        let scanned = attribute("num_scan_inputs").and_then(|one| usize::try_from(one.i?).ok());
        let Some(inputs) = inputs.into_iter().collect::<Option<Vec<Value>>>() else {
            return self.nothing_known(here, place, "lacks an input");
        };
        let turned = ["scan_input_axes", "scan_output_axes"];
        let plain = turned.iter().all(|name| {
            attribute(name).is_none_or(|one| !one.cut && one.ints.iter().all(|axis| *axis == 0))
        });
        let old = version_of("", place.versions).is_none_or(|version| version < 9);
        let (Some(split), true) = (
            inputs.len().checked_sub(scanned.unwrap_or(usize::MAX)),
            plain && !old,
        ) else {
            return self.nothing_known(here, place, "has a form that is not followed");
        };
        let mut states = inputs;
        let slices = states.split_off(split);
        let mut entries = Vec::new();
        for value in slices {
            entries.push(match (value.role, &value.shape) {
                (Role::Same, shape) => Value {
                    element: value.element,
                    ..Value::same(
                        shape
                            .as_ref()
                            .and_then(|shape| Some(shape.get(1..)?.to_vec())),
                    )
                },
                (Role::Rows(axis), Some(shape)) if axis > 0 => Value {
                    element: value.element,
                    ..Value::rows(axis - 1, shape[1..].to_vec())
                },
                (Role::Mixed(_), _) => value,
                _ => self.mixed(here.obstacle(place, "goes from one row to the next")),
            });
        }
        let followed = self.steady(here, (Vec::new(), states, entries), 0, place);
        match followed {
            Some((_, outputs)) => outputs,
            None => self.nothing_known(here, place, "is not followed"),
        }
    }

    /// Follows the body of a loop until one more time changes nothing: the value of its condition, where it has one, and its outputs.
    fn steady(
        &mut self,
        here: &Here<'m>,
        (first, mut states, entries): (Vec<Value>, Vec<Value>, Vec<Value>),
        conditions: usize,
        place: &mut Place<'m>,
    ) -> Option<(Option<Value>, Vec<Value>)> {
        for state in &mut states {
            // Another number the next time.
            state.content = None;
            if state.role == Role::Count {
                *state = self.mixed(here.obstacle(place, "counts on from the number of rows"));
            }
        }
        // Sizes that were found to change from one time to the next: any size will do for them.
        let mut open = 0..0;
        for last in [false, false, true] {
            let given = [&first[..], &states, &entries].concat();
            let mut outputs = self.body(here, "body", given, place)?;
            if outputs.len() < conditions + states.len() {
                return None;
            }
            let mut collected = outputs.split_off(conditions + states.len());
            let after = outputs.split_off(conditions);
            let is_steady = states
                .iter()
                .zip(&after)
                .all(|(one, other)| holds(one, other, &open));
            if is_steady {
                collected = collected
                    .into_iter()
                    .map(|value| self.collected(here, value, place))
                    .collect();
            } else if last {
                let why = "changes what it carries from one time to the next";
                let value = self.mixed(here.obstacle(place, why));
                states.fill(value.clone());
                collected.fill(value);
            } else {
                let begin = self.next_unknown.get();
                let pairs = states.into_iter().zip(after);
                states = pairs
                    .map(|(before, after)| self.widened(before, &after))
                    .collect();
                open = begin..self.next_unknown.get();
                continue;
            }
            return Some((outputs.pop(), [states, collected].concat()));
        }
        None
    }

    /// What is true of a value before and after: sizes that change are unknown.
    fn widened(&self, before: Value, after: &Value) -> Value {
        let value = match (before.role, after.role) {
            (_, Role::Mixed(_)) => after.clone(),
            (Role::Same, Role::Same) => Value::same(self.common(&before, after)),
            (Role::Rows(axis), Role::Rows(same)) if axis == same => {
                match self.common(&before, after) {
                    Some(shape) if !shape[axis].is_fixed() => Value::rows(axis, shape),
                    _ => return before,
                }
            }
            _ => return before,
        };
        Value {
            element: before.element,
            of_data: before.of_data || after.of_data,
            content: None,
            ..value
        }
    }

    /// The values of all times, one behind the other along a new first axis.
    fn collected(&mut self, here: &Here<'m>, value: Value, place: &Place<'m>) -> Value {
        let role = match value.role {
            Role::Rows(axis) => Role::Rows(axis + 1),
            Role::Count => return self.mixed(here.obstacle(place, "counts the rows")),
            other => other,
        };
        let shape = value.shape.map(|shape| {
            let times = std::iter::once(call::some(&self.next_unknown, true));
            times.chain(shape).collect()
        });
        Value {
            role,
            shape,
            content: None,
            ..value
        }
    }
}

/// Whether what is known of a value before also holds after, where these unknown sizes may be any.
fn holds(before: &Value, after: &Value, open: &std::ops::Range<u32>) -> bool {
    let fits = |(before, after): (&Size, &Size)| {
        before == after || after.is_fixed() && open.clone().any(|id| before.is_unknown(id))
    };
    let shapes = match (&before.shape, &after.shape) {
        (Some(before), Some(after)) => {
            before.len() == after.len() && before.iter().zip(after).all(fits)
        }
        (before, _) => before.is_none(),
    };
    matches!(before.role, Role::Mixed(_)) || before.role == after.role && shapes
}

/// Inputs that a request brings: those that are no constants.
pub(super) fn inputs_of(graph: &Graph) -> impl Iterator<Item = &ValueInfo> {
    let constants: std::collections::HashSet<&str> = graph
        .initializer
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let inputs = graph.input.iter();
    inputs.filter(move |info| !constants.contains(info.name.as_str()))
}

/// The version of a domain's operators, where it is one that the table is about.
fn version_of(domain: &str, versions: &[Opset]) -> Option<i64> {
    let mut same = versions
        .iter()
        .filter(|one| domain_of(&one.domain) == domain);
    let found = same.next();
    if same.any(|other| Some(other.version) != found.map(|one| one.version)) {
        return None;
    }
    let newest = match domain {
        "" => table::VERSION_MAX,
        "ai.onnx.ml" => table::VERSION_MAX_ML,
        // Not every program that writes these says so.
        _ => return Some(1).filter(|_| found.is_none_or(|one| one.version == 1)),
    };
    let version = found?.version;
    (1..=newest).contains(&version).then_some(version)
}

/// A node, and its number in its graph.
struct Here<'m> {
    node: &'m Node,
    number: usize,
}

impl<'m> Here<'m> {
    fn path(&self, place: &Place<'_>) -> String {
        match place.path.is_empty() {
            true => self.number.to_string(),
            false => format!("{}/{}", place.path, self.number),
        }
    }

    fn obstacle(&self, place: &Place<'_>, why: &str) -> Obstacle {
        let domain = domain_of(&self.node.domain);
        let separator = if domain.is_empty() { "" } else { "." };
        let name = match self.node.name.as_str() {
            "" => String::new(),
            name => format!(", {name:?}"),
        };
        Obstacle {
            operator: Some(format!("{domain}{separator}{}", self.node.op_type)),
            node: Some(format!("node {}{name}", self.path(place))),
            why: why.to_owned(),
        }
    }

    /// The attributes in order; nothing for one that stands for an attribute of the call which was not given.
    fn resolved(&self, place: &Place<'m>) -> Vec<Option<Cow<'m, Attribute>>> {
        let resolve = |one: &'m Attribute| match (one.ref_attr_name.as_str(), &place.attributes) {
            ("", _) | (_, None) => Some(Cow::Borrowed(one)),
            (name, Some(given)) => given.get(name).map(|given| {
                Cow::Owned(Attribute {
                    name: one.name.clone(),
                    ..Attribute::clone(given)
                })
            }),
        };
        self.node.attribute.iter().map(resolve).collect()
    }

    fn attributes(&self, place: &Place<'m>) -> Vec<Cow<'m, Attribute>> {
        self.resolved(place).into_iter().flatten().collect()
    }
}

/// The outputs by the rule of the operator; the same for all rows where all inputs are.
fn follow_call(operator: Operator, call: &Call<'_>) -> call::Outcome {
    let outputs = (operator.rule)(call);
    if call.inputs().all(|input| input.role == Role::Same) {
        let unknown = |_| vec![Value::same(None); call.outputs];
        let mut outputs = outputs.unwrap_or_else(unknown);
        outputs.resize(call.outputs.max(outputs.len()), Value::same(None));
        return Ok(outputs);
    }
    let outputs = outputs?;
    match call.overlooked() {
        Some(index) => Err(format!("has an input {index} that is not followed")),
        None => Ok(outputs),
    }
}

fn work_obstacle(work: Work, call: &Call<'_>) -> Option<&'static str> {
    match work {
        Work::Shapes => None,
        Work::Inputs(inputs) => inputs
            .iter()
            .any(|index| call.optional(*index).is_some_and(|input| input.of_data))
            .then_some("makes a size of values"),
        Work::Values(why) => Some(why),
    }
}

fn trap_obstacle(trap: Trap, call: &Call<'_>) -> Option<&'static str> {
    match trap {
        Trap::No => None,
        Trap::Division => {
            let divisor = call.optional(1)?;
            let known = divisor.numbers();
            let harmless = known.is_some_and(|known| {
                !known.is_empty() && !known.iter().any(|number| matches!(number, 0 | -1))
            });
            let floats = element::is_float(divisor.element);
            (!harmless && !floats).then_some("may divide the smallest whole number by -1")
        }
        Trap::EmptyBatch => {
            let batch = call
                .optional(0)
                .and_then(|input| input.shape.as_ref()?.get(1)?.number());
            batch
                .is_none_or(|batch| batch < 1)
                .then_some("ends the process for a batch of no rows")
        }
        Trap::Kernel(index) => {
            let weights = call
                .optional(index)
                .and_then(|input| input.shape.as_deref());
            let kernel = weights.and_then(|sizes| sizes.get(2..));
            let whole = |size: &Size| size.number().is_some_and(|size| size > 0);
            let known = kernel.is_some_and(|kernel| kernel.iter().all(whole));
            (!known).then_some("may run for ever with a kernel of size 0")
        }
        Trap::Training => (reduce::trains(call) != Some(false))
            .then_some("in training mode ends the process where it leaves an output out"),
        Trap::Suspected(why) => Some(why),
    }
}

fn given_element(gives: Gives, call: &Call<'_>) -> Option<i32> {
    match gives {
        Gives::Rule => None,
        Gives::Unknown => Some(element::UNKNOWN),
        Gives::Type(kind) => Some(kind),
        Gives::Input(index) => Some(
            call.optional(index)
                .map_or(element::UNKNOWN, |input| input.element),
        ),
        Gives::Attribute(name) => Some(match (call.attribute(name), name) {
            (None, "value") => element::FLOAT,
            (None, _) => element::UNKNOWN,
            (Some(one), _) => match &one.t {
                Some(tensor) => tensor.data_type,
                None => i32::try_from(one.i.unwrap_or(0)).unwrap_or(element::UNKNOWN),
            },
        }),
    }
}
