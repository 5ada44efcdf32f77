//! Makes `api/openapi.json` of the handlers and of `pgdibs-api`; `PGDIBS_WRITE_DOCS=1` writes the file, otherwise it is compared.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, SchemaType, Type};
use utoipa::openapi::{Components, OpenApi, Ref, RefOr, Schema};

use crate::http::{databases, events, leases, metrics, openapi, page, pools, probes, runs, status, templates};

#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        probes::live,
        probes::health,
        probes::ready,
        metrics::show,
        page::show,
        openapi::show,
        status::show,
        events::stream,
        pools::list,
        pools::show,
        pools::put,
        pools::delete,
        templates::show,
        templates::log,
        templates::put,
        templates::delete,
        templates::seal,
        templates::renew,
        templates::abandon,
        leases::list,
        leases::acquire,
        leases::acquire_batch,
        leases::show,
        leases::release,
        leases::renew,
        leases::reset,
        leases::keep,
        runs::list,
        runs::put,
        runs::delete,
        runs::post_report,
        databases::list,
        databases::delete,
        databases::credentials,
    ),
    components(schemas(
        pgdibs_api::problem::Problem,
        pgdibs_api::event::EventKind,
        pgdibs_api::event::Event,
        pgdibs_api::lease::LeaseFilter
    ))
)]
struct Handlers;

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Which operations may follow an answer, for tools that try sequences of calls.
#[derive(Deserialize)]
struct Links {
    links: Value,
    /// By operation and status.
    responses: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// What no handler says stands in `base.json`: title, security, the response of every error.
fn document() -> OpenApi {
    let mut document: OpenApi = serde_json::from_str(include_str!("../base.json")).unwrap();
    let links: Links = serde_json::from_str(include_str!("../links.json")).unwrap();
    let handlers = Handlers::openapi();
    let mut schemas = handlers.components.unwrap().schemas;
    document.paths = handlers.paths;
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            finish(operation, &schemas, &links);
        }
    }
    let named = schemas.clone();
    schemas.retain(|_, schema| !is_inlined(schema));
    for schema in schemas.values_mut() {
        *schema = simplify(schema.clone(), &named);
        require_nullable(schema);
    }
    let components: &mut Components = document.components.as_mut().unwrap();
    components.schemas = schemas;
    components.extensions = Some([("links", links.links)].into_iter().collect());
    document
}

fn finish(operation: &mut Operation, schemas: &Schemas, links: &Links) {
    operation.tags = None;
    for parameter in operation.parameters.iter_mut().flatten() {
        parameter.schema = parameter.schema.take().map(|schema| not_null(simplify(schema, schemas)));
    }
    for content in operation.request_body.iter_mut().flat_map(|body| body.content.values_mut()) {
        content.schema = content.schema.take().map(not_null);
    }
    if operation.security.is_some() {
        // Needs no token, and has no error of its own.
        operation.security = Some(Vec::new());
    } else {
        let problem = Ref::new("#/components/responses/Problem");
        operation.responses.responses.insert("default".to_owned(), problem.into());
    }
    for (status, names) in links.responses.get(operation.operation_id.as_ref().unwrap()).into_iter().flatten() {
        let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) else { panic!("no {status}") };
        let link = |name: &String| (name.clone(), RefOr::Ref(Ref::new(format!("#/components/links/{name}"))));
        response.links = names.iter().map(link).collect();
    }
}

/// Numbers, texts and lists with their bounds are written where they are used; objects and enumerations have a name.
fn is_inlined(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.schema_type != SchemaType::Type(Type::Object) && object.enum_values.is_none()
        }
        RefOr::T(Schema::Array(_)) => true,
        _ => false,
    }
}

/// The same schema as people write it: no reference to a bounded number, `["integer", "null"]` in place of a choice, one object in place
/// of several that are flattened.
fn simplify(schema: RefOr<Schema>, schemas: &Schemas) -> RefOr<Schema> {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap();
            match schemas.get(name) {
                Some(target) if is_inlined(target) => {
                    let about = Some(reference.description).filter(|text| !text.is_empty());
                    described(simplify(target.clone(), schemas), about, None)
                }
                _ => RefOr::Ref(reference),
            }
        }
        RefOr::T(Schema::OneOf(mut choice)) => {
            let count = choice.items.len();
            choice.items.retain(|item| !is_null(item));
            let is_nullable = choice.items.len() < count;
            choice.items = choice.items.into_iter().map(|item| simplify(item, schemas)).collect();
            match (choice.items.pop(), choice.items.is_empty()) {
                (Some(RefOr::T(only @ (Schema::Object(_) | Schema::Array(_)))), true) => {
                    let only = if is_nullable { nullable(only) } else { only };
                    described(only.into(), choice.description, choice.default)
                }
                (Some(mut last), _) => {
                    if let RefOr::Ref(reference) = &mut last {
                        let about = Some(std::mem::take(&mut reference.description)).filter(|text| !text.is_empty());
                        choice.description = choice.description.or(about);
                    }
                    choice.items.extend(is_nullable.then(|| Object::with_type(Type::Null).into()));
                    choice.items.push(last);
                    RefOr::T(Schema::OneOf(choice))
                }
                (None, _) => RefOr::T(Schema::OneOf(choice)),
            }
        }
        RefOr::T(Schema::AllOf(all)) => {
            let mut whole = Object::with_type(Type::Object);
            whole.description = all.description;
            let mut parts = all.items;
            // What may be missing comes last.
            parts.sort_by_key(|part| matches!(part, RefOr::T(Schema::OneOf(_))));
            for part in parts {
                flatten(&mut whole, simplify(part, schemas), schemas, true);
            }
            RefOr::T(Schema::Object(whole))
        }
        RefOr::T(Schema::Object(mut object)) => {
            object.properties =
                object.properties.into_iter().map(|(name, schema)| (name, simplify(schema, schemas))).collect();
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::Array(mut array)) => {
            if let ArrayItems::RefOrSchema(items) = array.items {
                array.items = ArrayItems::RefOrSchema(Box::new(simplify(*items, schemas)));
            }
            RefOr::T(Schema::Array(array))
        }
        other => other,
    }
}

/// Adds the fields of one part to an object; those of a part that may be missing are not required.
fn flatten(whole: &mut Object, part: RefOr<Schema>, schemas: &Schemas, is_required: bool) {
    match part {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap();
            flatten(whole, simplify(schemas[name].clone(), schemas), schemas, is_required);
        }
        RefOr::T(Schema::OneOf(choice)) => {
            let parts = choice.items.into_iter().filter(|item| !is_null(item));
            parts.for_each(|part| flatten(whole, part, schemas, false));
        }
        RefOr::T(Schema::Object(object)) => {
            whole.properties.extend(object.properties);
            whole.required.extend(object.required.into_iter().filter(|_| is_required));
        }
        RefOr::T(_) => panic!("only objects are flattened"),
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}

fn nullable(mut schema: Schema) -> Schema {
    let kind = match &mut schema {
        Schema::Object(object) => &mut object.schema_type,
        Schema::Array(array) => &mut array.schema_type,
        _ => return schema,
    };
    if let SchemaType::Type(only) = kind {
        *kind = SchemaType::Array(vec![only.clone(), Type::Null]);
    }
    schema
}

/// A parameter or a body can be missing, but not null.
fn not_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|kind| *kind != Type::Null);
                object.schema_type = SchemaType::Type(types.remove(0));
            }
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::OneOf(choice)) => choice.items.into_iter().find(|item| !is_null(item)).unwrap(),
        other => other,
    }
}

fn described(mut schema: RefOr<Schema>, about: Option<String>, default: Option<Value>) -> RefOr<Schema> {
    let fields = match &mut schema {
        RefOr::T(Schema::Object(object)) => (&mut object.description, &mut object.default),
        RefOr::T(Schema::Array(array)) => (&mut array.description, &mut array.default),
        _ => return schema,
    };
    *fields.0 = about.or(fields.0.take());
    *fields.1 = default.or(fields.1.take());
    schema
}

/// An answer always has its fields that may be null; what may be missing cannot be null. Requests may leave out either.
fn require_nullable(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(object)) = schema else { return };
    if matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false))) {
        return;
    }
    let may_be_null = |schema: &RefOr<Schema>| match schema {
        RefOr::T(Schema::Object(object)) => {
            matches!(&object.schema_type, SchemaType::Array(types) if types.contains(&Type::Null))
        }
        RefOr::T(Schema::Array(array)) => {
            matches!(&array.schema_type, SchemaType::Array(types) if types.contains(&Type::Null))
        }
        RefOr::T(Schema::OneOf(choice)) => choice.items.iter().any(is_null),
        _ => false,
    };
    let required =
        object.properties.iter().filter(|(name, schema)| object.required.contains(name) || may_be_null(schema));
    object.required = required.map(|(name, _)| name.clone()).collect();
}

#[test]
fn document_is_generated() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/openapi.json");
    let generated = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("PGDIBS_WRITE_DOCS").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    let differs = written.lines().zip(generated.lines()).position(|(written, generated)| written != generated);
    assert!(written == generated, "api/openapi.json is stale from line {differs:?} on: PGDIBS_WRITE_DOCS=1 writes it");
}
