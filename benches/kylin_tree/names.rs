//! The vocabularies the synthetic names are made of.

use super::dice::Dice;

const DEPARTMENTS: &str = "sales finance risk logistics marketing retail billing support insight audit mobile \
    network claims warehouse energy travel lending pricing supply growth";
const LAYERS: &str = "DWD DWS DIM ADS MART STAGE";
const THINGS: &str = "ORDER PAYMENT SHIPMENT CUSTOMER PRODUCT STORE CAMPAIGN SESSION CLAIM CONTRACT INVOICE \
    REFUND DEVICE ACCOUNT TICKET SUPPLIER BASKET VISIT COUPON DELIVERY METER TARIFF ROUTE \
    VEHICLE EMPLOYEE BRANCH LOAN CARD REGION CALENDAR CATEGORY CHANNEL CURRENCY WAREHOUSE \
    STOCK RETURN SENSOR EVENT CLICK PARTNER";
const ASPECTS: &str = "ID KEY CODE NAME TYPE STATUS DATE TIME AMOUNT COUNT PRICE COST TAX CITY COUNTRY LEVEL \
    GROUP SOURCE FLAG RANK SCORE WEIGHT LENGTH OWNER REVENUE DISCOUNT QUANTITY SEGMENT BRAND \
    CREATED_AT UPDATED_AT VERSION REMARK POSTAL_CODE DURATION_MS BALANCE MARGIN BATCH_NO \
    CHECKSUM DESCRIPTION";
const FIRST: &str = "anna ben carla david elif farid greta hugo ines jonas kira liam mei nora oscar paula \
    quinn rosa sven tara uma victor wei yara zoe";
const LAST: &str = "abel brandt costa dietz evans fischer garcia huang ito jansen kaya lopez meyer nowak \
    olsen petit quist rossi silva tanaka ueda vogel weber young";

fn pick(dice: &mut Dice, words: &'static str) -> &'static str {
    let index = dice.index(words.split(' ').count());
    words.split(' ').nth(index).unwrap_or_default()
}

/// Returns a project name; the number keeps it unique.
pub fn project(dice: &mut Dice, number: u64) -> String {
    format!("{}_{number:02}", pick(dice, DEPARTMENTS))
}

/// Returns a database name.
pub fn database(dice: &mut Dice) -> String {
    let department = pick(dice, DEPARTMENTS).to_uppercase();
    format!("{}_{department}", pick(dice, LAYERS))
}

/// Returns a table name; the number keeps it unique in its database.
pub fn table(dice: &mut Dice, fact: bool, number: usize) -> String {
    let (role, thing) = (if fact { "FACT" } else { "DIM" }, pick(dice, THINGS));
    match dice.below(3) {
        0 => format!("{role}_{thing}_{number}"),
        1 => format!("{role}_{thing}_{}_{number}", pick(dice, THINGS)),
        _ => format!("{thing}_{role}_{number:03}"),
    }
}

/// Returns a column name and its aspect, which tells the data type.
pub fn column(dice: &mut Dice) -> (String, &'static str) {
    let (thing, aspect) = (pick(dice, THINGS), pick(dice, ASPECTS));
    if dice.chance(20) {
        (format!("{thing}_{}_{aspect}", pick(dice, THINGS)), aspect)
    } else {
        (format!("{thing}_{aspect}"), aspect)
    }
}

/// Returns a model's alias; the number keeps it unique in its project.
pub fn model(dice: &mut Dice, number: usize) -> String {
    let (thing, aspect) = (pick(dice, THINGS), pick(dice, ASPECTS));
    format!("{}_by_{}_{number}", thing.to_lowercase(), aspect.to_lowercase())
}

/// Returns a user name; the number picks it, so equal numbers give equal names.
pub fn user(number: u64) -> String {
    let number = usize::try_from(number).unwrap_or(0);
    if number == 0 {
        return "ADMIN".to_owned();
    }
    let (firsts, lasts) = (FIRST.split(' ').count(), LAST.split(' ').count());
    let first = FIRST.split(' ').nth(number % firsts).unwrap_or_default();
    let last = LAST.split(' ').nth(number / firsts % lasts).unwrap_or_default();
    match number / (firsts * lasts) {
        0 => format!("{first}.{last}"),
        round => format!("{first}.{last}{round}"),
    }
}

/// Returns a value as it would stand in a cell of a text column.
pub fn value(dice: &mut Dice) -> String {
    let (thing, number) = (pick(dice, THINGS), dice.magnitude(4, 16));
    match dice.below(4) {
        0 => format!("{thing}#{number:09}"),
        1 => format!("{} {}", pick(dice, FIRST), pick(dice, LAST)),
        2 => format!("{}-{number}", pick(dice, DEPARTMENTS)),
        _ => thing.to_lowercase(),
    }
}
