"""A trigger keeps the key by which works are found: the title in lower case, without accents that people do not type."""

from django.db import migrations

FORWARD = """
create function catalogue_title_key() returns trigger language plpgsql as $$
begin
  new.title_key := translate(lower(new.title), 'àáâäèéêëìíîïòóôöùúûüçñ', 'aaaaeeeeiiiioooouuuucn');
  return new;
end $$;
create trigger catalogue_work_title_key before insert or update of title on catalogue_work
  for each row execute function catalogue_title_key();
"""
BACK = "drop trigger catalogue_work_title_key on catalogue_work; drop function catalogue_title_key();"


class Migration(migrations.Migration):
    """SQL, because an ORM without triggers has no other way."""

    dependencies = [("catalogue", "0002_reference_data")]
    operations = [migrations.RunSQL(FORWARD, BACK)]
