"""What lives in the database beside tables: triggers, a view, a materialised view, a search index."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TOUCHED = [
    "blog_posts",
    "carts",
    "customers",
    "gift_cards",
    "orders",
    "pages",
    "payments",
    "products",
    "purchase_orders",
    "reviews",
    "shipments",
    "support_cases",
]


def upgrade() -> None:
    """Make them."""
    op.execute(
        """
        create function touch_updated_at() returns trigger language plpgsql as $$
        begin
            new.updated_at := clock_timestamp();
            return new;
        end $$
        """
    )
    for table in TOUCHED:
        op.execute(
            f"create trigger touch_updated_at before update on {table} for each row execute function touch_updated_at()"
        )
    op.execute(
        """
        create function record_order_status() returns trigger language plpgsql as $$
        begin
            if tg_op = 'INSERT' then
                insert into order_events (order_id, kind, details)
                values (new.id, 'status', jsonb_build_object('to', new.status));
            elsif new.status is distinct from old.status then
                insert into order_events (order_id, kind, details)
                values (new.id, 'status', jsonb_build_object('from', old.status, 'to', new.status));
            end if;
            return null;
        end $$
        """
    )
    op.execute(
        "create trigger record_order_status after insert or update on orders "
        "for each row execute function record_order_status()"
    )
    op.execute(
        """
        create view sales_by_day as
        select (placed_at at time zone 'UTC')::date as day, currency_code, count(*)::int as orders,
               sum(total_cents)::bigint as total_cents, sum(tax_cents)::bigint as tax_cents
        from orders where status not in ('cancelled', 'refunded')
        group by 1, 2
        """
    )
    op.execute(
        """
        create materialized view product_ratings as
        select product_id, count(*)::int as reviews, round(avg(rating), 2)::float8 as average
        from reviews where status = 'approved' group by product_id
        """
    )
    op.execute("create unique index uq_product_ratings_product_id on product_ratings (product_id)")
    op.execute(
        "create index ix_products_search on products using gin (to_tsvector('simple', name || ' ' || description))"
    )


def downgrade() -> None:
    """Drop them."""
    op.execute("drop index ix_products_search")
    op.execute("drop materialized view product_ratings")
    op.execute("drop view sales_by_day")
    op.execute("drop trigger record_order_status on orders")
    op.execute("drop function record_order_status()")
    for table in TOUCHED:
        op.execute(f"drop trigger touch_updated_at on {table}")
    op.execute("drop function touch_updated_at()")
